"""Controllers as `rudder bench agent` plays them."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from rudder.agent.controller import Controller
from rudder.agent.evidence import Evidence
from rudder.agent.lead import most_lead
from rudder.agent.prompt import prompt_text
from rudder.errors import AgentError
from rudder.metrics import IntervalMetrics
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

        question = prompt_text(evidence)
        ask = Ask(len(self.total_ms), question, evidence.space, self._deadline_ms, evidence.job.text())
        begin = time.perf_counter()
        plan, cost = evidence.plan, dict[str, float]()
        with contextlib.suppress(AgentError):
            plan, cost = self._decider.decide(ask)
            self.valid += 1
        self.total_ms.append(1000 * (time.perf_counter() - begin))
        self.prefill_ms.append(cost.get("prefill_ms", 0.0))
        self.decode_ms.append(cost.get("decode_ms", 0.0))
        return plan


class AskedAhead:
    """Another controller, asked before the end of each interval, as one that takes a while is in a live run.

    An interval that is over too soon is not asked about.
    """

    def __init__(self, controller: Controller, share: float = 0.0) -> None:
        """``share``: of the interval, the lead; at least one minibatch, at most a quarter."""
        self._controller, self._share = controller, share
        self._answer: Plan | None = None

    def lead(self, metrics: IntervalMetrics) -> int:
        """Minibatches before the end."""
        interval = metrics.plan.interval
        return min(max(1, round(self._share * interval)), most_lead(interval))

    def ask(self, evidence: Evidence) -> None:
        """Think."""
        self._answer = self._controller.decide(evidence)

    def decide(self, evidence: Evidence) -> Plan:
        """What was thought."""
        answer, self._answer = self._answer, None
        return evidence.plan if answer is None else answer
