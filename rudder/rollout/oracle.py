"""The controller that knows the future, in simulations only. It is greedy: others may still beat it."""

from __future__ import annotations

from rudder.agent.evidence import Evidence
from rudder.plan import Plan
from rudder.rollout.label import HORIZON, label
from rudder.rollout.simulator import Simulator


class OracleController:
    """Answers the best plan that may follow, several knobs at once where that gains, by trying them.

    It looks some intervals ahead and no further, and moves each knob by one step: a detour that pays later it
    never takes.
    """

    def __init__(self, simulator: Simulator, horizon: int = HORIZON) -> None:
        """Try plans on copies of this run, for ``horizon`` intervals of what really comes next."""
        self._simulator, self._horizon = simulator, horizon

    def decide(self, evidence: Evidence) -> Plan:
        """The best plan by its time on what comes next."""
        return Plan.parse(label(evidence, self._simulator.cost_of(self._horizon), "oracle").answer)
