"""The controller that knows the future: what no other can beat by much, in replays and simulations only."""

from __future__ import annotations

from collections.abc import Callable

from rudder.agent.evidence import Evidence
from rudder.errors import ConfigError
from rudder.plan import Plan

#: Modelled milliseconds a step of what really comes next, under a plan.
Cost = Callable[[Plan], float]


class OracleController:
    """Answers the best plan that may follow, several knobs at once where that gains, by trying them."""

    def __init__(self, cost_now: Callable[[], Cost] | None = None) -> None:
        """``cost_now``: what tries plans from where the simulated run stands (`Simulator.cost_of`).

        Raises ConfigError without it: a live run's future is not known.
        """
        if cost_now is None:
            raise ConfigError(
                "controller 'oracle' knows what comes next, so it steers replays and simulations alone: use"
                " `rudder bench agent`, or another controller for a live run"
            )
        self._cost_now = cost_now

    def decide(self, evidence: Evidence) -> Plan:
        """The best plan by its time on what comes next."""
        from rudder.pilot.label import label

        return Plan.parse(label(evidence, self._cost_now(), "oracle").answer)
