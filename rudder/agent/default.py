"""The controller that steers nothing: whatever plan the run started with stays.

A prior counted in the run is kept up to date, at every interval's end.
"""

from __future__ import annotations

from rudder.agent.evidence import Evidence
from rudder.plan import Plan


def kept(plan: Plan) -> Plan:
    """No change of the plan in force."""
    return plan.but(rebuild=plan.prior == "frequency")


class DefaultController:
    """Answers the plan in force. The baseline that every other controller must beat."""

    def decide(self, evidence: Evidence) -> Plan:
        """No change."""
        return kept(evidence.plan)
