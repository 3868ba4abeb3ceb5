"""The controller that steers nothing: whatever plan the run started with stays.

A prior counted in the run is kept up to date, at every interval's end.
"""

from __future__ import annotations

from rudder.metrics import IntervalMetrics
from rudder.plan import Plan


class DefaultController:
    """Answers the plan in force. The baseline that every other controller must beat."""

    def decide(self, metrics: IntervalMetrics) -> Plan:
        """No change."""
        return metrics.plan.but(rebuild=metrics.plan.prior == "frequency")
