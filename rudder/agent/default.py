"""The controller that steers nothing: whatever plan the run started with stays."""

from __future__ import annotations

from rudder.metrics import IntervalMetrics
from rudder.plan import Plan


class DefaultController:
    """Answers the plan in force. The baseline that every other controller must beat."""

    def decide(self, metrics: IntervalMetrics) -> Plan:
        """No change."""
        return metrics.plan
