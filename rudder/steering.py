"""Steering: asks the controller for a plan at each interval's end; its errors never stop the training.

Its time does: `decide` runs on the trainer's thread, between two steps, and the next one waits for it.
"""

from __future__ import annotations

import logging

from rudder.agent.controller import Controller
from rudder.agent.evidence import Evidence
from rudder.metrics import IntervalMetrics
from rudder.plan import Plan

_log = logging.getLogger("rudder")


class Steering:
    """The plan in force and the controller that may change it. Used by one thread (the trainer's)."""

    def __init__(self, controller: Controller, plan: Plan) -> None:
        """Start with ``plan``."""
        self.controller = controller
        self.plan = plan
        self.refused = 0
        self._previous: IntervalMetrics | None = None

    def step(self, metrics: IntervalMetrics) -> Plan:
        """The next interval's plan: the controller's, or the last good one where that cannot be used."""
        evidence = Evidence(metrics, previous=self._previous)
        self._previous = metrics
        try:
            answer = self.controller.decide(evidence)
        except Exception as error:
            self.refuse(f"raised {type(error).__name__}: {error}")
            return self.plan
        if not isinstance(answer, Plan):
            self.refuse(f"answered {answer!r}, which is not a Plan")
            return self.plan
        return answer

    def accept(self, plan: Plan) -> None:
        """Keep a plan that has been applied."""
        self.plan = plan

    def refuse(self, reason: str) -> None:
        """Count an unusable answer; the first one is logged, the others are only counted."""
        self.refused += 1
        if self.refused == 1:
            name = type(self.controller).__name__
            _log.warning("controller %s %s; the last good plan stays (%s)", name, reason, self.plan)
