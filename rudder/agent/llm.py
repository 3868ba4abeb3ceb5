"""The agent: a controller that asks a language model, in another process, and never waits for it.

It asks a few minibatches before the end of each interval, about the interval so far, and takes the answer at
the end. How many: as many as answers lately took (`rudder.agent.lead`). What has not arrived by then is late:
it is dropped, and counted. While there is no answer, for whatever reason, the plan in force stays.

A model that takes longer than a quarter of an interval is not asked (but every `ASK_AGAIN` intervals, to see
whether that was a bad moment), and the log says which interval it would need.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any

from rudder.agent.controller import Report
from rudder.agent.evidence import Evidence, step_milliseconds
from rudder.agent.lead import AnswerTime, in_time, lead, most_lead, needed_interval
from rudder.agent.prompt import prompt_text
from rudder.agent.worker.client import ENV_ADDRESS, Client
from rudder.agent.worker.protocol import LATE, Answer, Ask, Failed, State
from rudder.agent.worker.settings import Room, WorkerSettings
from rudder.errors import AgentError, ConfigError, FormatError
from rudder.metrics import IntervalMetrics
from rudder.plan import BOUNDS, Plan

#: A model for runs that name none; `rudder launch --agent-model` sets it.
ENV_MODEL = "RUDDER_AGENT_MODEL"
#: Intervals after which a model that was too slow is asked once more.
ASK_AGAIN = 16
# Deadline of a question when nobody knows how long a step is, and bounds of the others.
_FIRST_DEADLINE_MS, _SHORTEST_DEADLINE_MS, _LONGEST_DEADLINE_MS = 1000.0, 20.0, 60_000.0

_log = logging.getLogger("rudder")


@dataclass
class AgentCounts:
    """What became of the questions; asked = valid + late + failed + invalid + stale, and one under way."""

    asked: int = 0
    #: Plans that arrived in time and may follow the plan in force.
    valid: int = 0
    #: Of these, plans other than the one in force.
    changed: int = 0
    #: Nothing had arrived by the boundary, or the deadline had passed before the model was done.
    late: int = 0
    #: The model or its process failed, or the connection broke.
    failed: int = 0
    #: What arrived was no plan that may follow, or no message.
    invalid: int = 0
    #: Another plan had come into force in the meantime.
    stale: int = 0
    #: Intervals without a question: the model was not ready, too slow, or its pipe was full.
    skipped: int = 0


class AgentController:
    """Asks the model of `settings` in each interval. Used by one thread (the trainer's).

    `ask` and `decide` take well below a millisecond: a read, a write, neither of which blocks.
    """

    def __init__(self, settings: WorkerSettings | None = None, trainer: str = "") -> None:
        """Connect to the host's keeper, or start one. Raises ConfigError; trouble later is only logged.

        ``trainer``: its name in logs.
        """
        self.counts = AgentCounts()
        #: What the model's process said of itself when it had loaded: see docs/agent.md, also for the next.
        self.load_report: dict[str, Any] = {}
        #: What the last answer cost.
        self.cost: dict[str, float] = {}
        self._cpu_seconds = 0.0
        self._answered_interval: int | None = None
        self._warned: set[str] = set()
        self._state = State("starting")
        self._open_question: Ask | None = None
        self._asked_about: IntervalMetrics | None = None
        self._answer: Answer | Failed | FormatError | None = None
        self._decision_ms = 0.0
        self._answer_time = AnswerTime()
        self._id = 0
        self._rest = 0
        self._client: Client | None = None
        try:
            self._client = Client(settings or settings_here(), trainer)
        except AgentError as error:
            self._give_up(str(error))

    @property
    def state(self) -> str:
        """How the model stands: "starting", "ready", "restarting" or "refused" (for good)."""
        return self._state.state

    @property
    def waiting(self) -> bool:
        """Is the answer to a question still to come?"""
        return self._open_question is not None and self._answer is None

    @property
    def keeper(self) -> int | None:
        """Process id of the keeper, where this controller has started it."""
        return self._client.keeper if self._client is not None else None

    def lead(self, metrics: IntervalMetrics) -> int:
        """Minibatches before the boundary at which to ask, by what answers and steps took lately."""
        return lead(self._answer_time.milliseconds, step_milliseconds(metrics), metrics.plan.interval)

    def ask(self, evidence: Evidence) -> None:
        """Post the question; never raises. A question that is still open was asked in vain."""
        try:
            self._hear()
            self.counts.stale += self._open_question is not None
            self._open_question = self._answer = self._asked_about = None
            self._ask(evidence)
        except ConnectionError as error:
            self._lost(str(error))

    def decide(self, evidence: Evidence) -> Plan:
        """The plan that has arrived, or the one in force. Never raises."""
        try:
            self._hear()
            return self._settle(evidence)
        except ConnectionError as error:
            self._lost(str(error))
            return evidence.plan

    def report(self) -> Report:
        """Totals so far. The process's memory is that of all its trainers; the CPU time is this one's."""
        counts, state = self.counts, self._state
        return Report(
            valid=counts.valid,
            late=counts.late + counts.stale,
            failed=counts.failed + counts.invalid,
            answered=self._answered_interval,
            decision_ms=self._decision_ms,
            cpu_seconds=self._cpu_seconds,
            memory_bytes=int(self.cost.get("rss_bytes", self.load_report.get("rss_bytes", 0))),
            state=f"{state.state}: {state.reason}" if state.reason else state.state,
        )

    def listen(self, seconds: float) -> None:
        """Take in what comes next, within so many seconds. For measurements and tests: no trainer waits."""
        try:
            if self._client is not None:
                self._client.wait(seconds)
                self._hear()
        except ConnectionError as error:
            self._lost(str(error))

    def close(self) -> None:
        """Leave the keeper; end one that this controller started. Idempotent."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _hear(self) -> None:
        for message in self._client.receive() if self._client is not None else ():
            if isinstance(message, State):
                self._now(message)
            elif isinstance(message, (Answer, Failed)):
                self.cost = message.cost or self.cost
                self._cpu_seconds += message.cost.get("cpu_ms", 0.0) / 1000
                if "total_ms" in message.cost:
                    # What is slow is the model, and not the queue before it; a lead has to cover both.
                    self._decision_ms = message.cost["total_ms"]
                    self._answer_time.took(self._decision_ms + message.cost.get("queue_ms", 0.0))
                if self._open_question is not None and message.id == self._open_question.id:
                    self._answer = message
            elif isinstance(message, FormatError):
                self._answer = message

    def _now(self, state: State) -> None:
        self._state = state
        if state.state == "ready":
            self.load_report = state.report
            self._decision_ms = float(state.report.get("decision_ms", 0.0))
            self._answer_time.took(self._decision_ms)
        elif state.state == "restarting":
            self._warn("trouble", f"its worker: {state.reason}; it is started anew, and meanwhile")
        elif state.state == "refused":
            self._warn("off", f"it is off for good: {state.reason};")

    def _settle(self, evidence: Evidence) -> Plan:
        """Settle the open question."""
        question, answer, about = self._open_question, self._answer, self._asked_about
        self._open_question = self._answer = self._asked_about = None
        if question is None:
            return evidence.plan
        if answer is None or (isinstance(answer, Failed) and answer.reason == LATE):
            self.counts.late += 1
            self._answer_time.missed(question.deadline_ms)
        elif isinstance(answer, Failed):
            self.counts.failed += 1
            self._warn("trouble", f"{answer.reason};")
        elif about is None or (about.interval, about.plan) != (evidence.metrics.interval, evidence.plan):
            self.counts.stale += 1
        else:
            return self._read(answer, evidence, about.interval)
        return evidence.plan

    def _read(self, answer: Answer | FormatError, evidence: Evidence, interval: int) -> Plan:
        try:
            if isinstance(answer, FormatError):
                raise answer
            plan = Plan.parse(answer.plan)
            if not evidence.space.allows(evidence.plan, plan):
                raise ConfigError(f"{answer.plan!r} may not follow")
        except (ConfigError, FormatError) as error:
            self.counts.invalid += 1
            self._warn("trouble", f"its answer cannot be used: {error};")
            return evidence.plan
        self.counts.valid += 1
        self._answered_interval = interval
        self.counts.changed += plan != evidence.plan
        return plan

    def _ask(self, evidence: Evidence) -> None:
        deadline = self._deadline(evidence)
        if self._client is None or self._state.state != "ready" or deadline is None:
            self.counts.skipped += 1
            return
        self._id += 1
        question = Ask(self._id, prompt_text(evidence), evidence.space, deadline, evidence.job.text())
        if not self._client.ask(question):
            self.counts.skipped += 1
            self._warn("trouble", "its keeper does not read what it is sent;")
            return
        self.counts.asked += 1
        self._open_question, self._asked_about = question, evidence.metrics

    def _deadline(self, evidence: Evidence) -> float | None:
        """Milliseconds to the boundary, as far as one can know; None where the model needs more."""
        step, interval = step_milliseconds(evidence.metrics), evidence.plan.interval
        if not step:
            return _FIRST_DEADLINE_MS
        if in_time(self._decision_ms, step, interval):
            self._rest = 0
            left = step * (interval - evidence.metrics.minibatches)
            return min(max(left, _SHORTEST_DEADLINE_MS), _LONGEST_DEADLINE_MS)
        self._warn("slow", f"{self._too_slow(step, interval)}; until then")
        self._rest += 1
        return min(4 * self._decision_ms, _LONGEST_DEADLINE_MS) if self._rest % ASK_AGAIN == 0 else None

    def _too_slow(self, step: float, interval: int) -> str:
        needed, (_, most, _) = needed_interval(self._decision_ms, step), BOUNDS["interval"]
        advice = f"it needs an interval of {needed}" if needed <= most else "use a smaller model"
        return (
            f"a decision takes {self._decision_ms:.0f} ms, a quarter of an interval of {interval} minibatches"
            f" has {step * most_lead(interval):.0f} ms: {advice}"
        )

    def _lost(self, reason: str) -> None:
        """The connection broke: an open question has failed."""
        if self._open_question is not None:
            self._open_question = self._answer = None
            self.counts.failed += 1
        self._state = State("restarting", reason)
        if self._client is not None and self._client.for_good:
            self._give_up(reason)
        else:
            self._warn("trouble", f"{reason};")

    def _give_up(self, reason: str) -> None:
        self.close()
        self._state = State("refused", reason)
        self._warn("off", f"it is off for good: {reason};")

    def _warn(self, kind: str, text: str) -> None:
        """Once of each kind."""
        if kind not in self._warned:
            self._warned.add(kind)
            _log.warning("agent: %s the last good plan stays", text)


def settings_here(model: str | None = None) -> WorkerSettings:
    """Settings from the environment: the host's keeper (RUDDER_AGENT), or a model for a keeper of one's own.

    ``model`` overrides RUDDER_AGENT_MODEL, and is run by a keeper of one's own where the host's runs another.
    Without either it is the one that comes with the package. What a keeper of one's own may take is as
    RUDDER_AGENT_CONTEXT and RUDDER_AGENT_THREADS say. Raises ConfigError.
    """
    of_host = os.environ.get(ENV_MODEL, "")
    address = os.environ.get(ENV_ADDRESS, "") if model in (None, of_host) else ""
    return WorkerSettings(of_host if model is None else model, Room.here(), address=address)
