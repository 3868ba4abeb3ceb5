"""The controller that steers nothing: whatever plan the run started with stays.

A prior counted in the run is kept up to date, at every interval's end.
"""

from __future__ import annotations

from rudder.agent.evidence import Evidence
from rudder.plan import Plan


class DefaultController:
    """Answers the plan in force. The baseline that every other controller must beat."""

    def decide(self, evidence: Evidence) -> Plan:
        """No change."""
        return evidence.plan.but(rebuild=evidence.plan.prior == "frequency")
