"""Controllers as `rudder bench agent` plays them."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from rudder.agent.controller import Controller
from rudder.agent.evidence import Evidence
from rudder.agent.prompt import evidence_text
from rudder.errors import AgentError
from rudder.plan import Plan

if TYPE_CHECKING:
    from rudder.agent.worker.decider import Decider


class ModelPlayer:
    """Asks a model and waits for its answer. What it took is remembered."""

    def __init__(self, decider: Decider, deadline_ms: float = 600_000.0) -> None:
        """A decision that takes longer than ``deadline_ms`` fails."""
        self._decider = decider
        self._deadline_ms = deadline_ms
        #: Milliseconds of each decision.
        self.total_ms: list[float] = []
        self.prefill_ms: list[float] = []
        self.decode_ms: list[float] = []
        #: Replies that were plans of the space.
        self.valid = 0

    def decide(self, evidence: Evidence) -> Plan:
        """The model's plan; the plan in force where it answers none that may follow."""
        from rudder.agent.worker.protocol import Ask

        ask = Ask(len(self.total_ms), evidence_text(evidence), evidence.space, self._deadline_ms)
        begin = time.perf_counter()
        plan, cost = evidence.plan, dict[str, float]()
        with contextlib.suppress(AgentError):
            plan, cost = self._decider.decide(ask)
            self.valid += 1
        self.total_ms.append(1000 * (time.perf_counter() - begin))
        self.prefill_ms.append(cost.get("prefill_ms", 0.0))
        self.decode_ms.append(cost.get("decode_ms", 0.0))
        return plan


class Late:
    """Another controller's answers, each an interval later, as where nobody waits for them.

    An answer to a plan that is no longer in force is dropped.
    """

    def __init__(self, controller: Controller) -> None:
        """Ask this one."""
        self._controller = controller
        self._waiting: tuple[Plan, Plan] | None = None

    def decide(self, evidence: Evidence) -> Plan:
        """What was answered to the interval before."""
        arrived = self._waiting
        now = evidence.plan.but(rebuild=False)
        self._waiting = (now, self._controller.decide(evidence))
        if arrived is not None and arrived[0] == now:
            self._waiting = None if arrived[1] != now else self._waiting
            return arrived[1]
        return now
