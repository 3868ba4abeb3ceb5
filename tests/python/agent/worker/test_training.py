"""Training under every fault of an agent goes on with the last good plan and correct rows, and says so once.

The worker's model is random weights in llama.cpp.
"""

from __future__ import annotations

import logging
import random
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from rudder import ArraySource, Evidence, IntervalMetrics, Options, Plan, PolicySettings, Prefetcher
from rudder.agent.controller import Report
from rudder.agent.llm import AgentController
from rudder.agent.space import Space
from rudder.agent.worker.channel import Channel
from rudder.agent.worker.protocol import Answer, Ask, State
from rudder.agent.worker.settings import WorkerSettings

SPACE = Space(priors=("none",))


def until(agent: AgentController, done: Callable[[], bool]) -> None:
    """Listen until something is so. The test's time limit ends it otherwise."""
    while not done():
        agent.listen(1.0)


class Faulty:
    """An agent's controller in a real run, with a fault while it is asked for the third time.

    Its intervals pass for long ones, and it lets the answer come, since this run takes milliseconds.
    ``silent``: after the fault there may never be an answer.
    """

    def __init__(
        self, agent: AgentController, fault: Callable[[], None] | None = None, *, silent: bool = False
    ) -> None:
        self.agent, self.fault, self.silent, self.interval = agent, fault, silent, 0

    def space(self, evidence: Evidence) -> Space:
        return SPACE

    def lead(self, metrics: IntervalMetrics) -> int:
        return 1

    def ask(self, evidence: Evidence) -> None:
        self.interval += 1
        # A worker that hangs is killed at twice the deadline, which follows from this.
        long = self.fault is None or self.interval < 3
        metrics = replace(evidence.metrics, seconds_wall=60.0 if long else 1.0)
        self.agent.ask(replace(evidence, metrics=metrics, space=self.space(evidence)))
        if self.fault is not None and self.interval == 3:
            self.fault()

    def decide(self, evidence: Evidence) -> Plan:
        if not self.silent or self.interval < 3:
            until(self.agent, lambda: not self.agent.waiting)
        return self.agent.decide(replace(evidence, space=self.space(evidence)))

    def report(self) -> Report:
        return self.agent.report()

    def close(self) -> None:
        self.agent.close()


class InPapersMode(Faulty):
    """No fault; keeps what it answers."""

    def __init__(self, agent: AgentController) -> None:
        super().__init__(agent)
        self.answers: list[Plan] = []

    def space(self, evidence: Evidence) -> Space:
        return evidence.space

    def decide(self, evidence: Evidence) -> Plan:
        self.answers.append(super().decide(evidence))
        return self.answers[-1]


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the agent has said."""
    return [text for text in map(logging.LogRecord.getMessage, caplog.records) if text.startswith("agent:")]


def train(controller: Any, minibatches: int = 40, **more: Any) -> Plan:
    """A run whose every row is compared."""
    rows = np.arange(40_000, dtype=np.float32).reshape(10_000, 4)
    rng = np.random.default_rng(0)
    options = Options(controller=controller, plan=Plan(interval=4), prior="none", **more)
    with Prefetcher(ArraySource(rows, [0, 5000, 10_000]), options) as table:
        for ids in table.iterate([rng.integers(0, 10_000, 200) for _ in range(minibatches)]):
            assert (table[ids] == rows[ids]).all()
        return table.plan


FAULTS = {
    "kill -9 the worker": (signal.SIGKILL, "worker", ["was killed by SIGKILL"]),
    "stop the worker": (signal.SIGSTOP, "worker", ["did not answer within"]),
    "kill -9 the keeper": (signal.SIGKILL, "keeper", ["it is off for good: "]),
    "stop the keeper": (signal.SIGSTOP, "keeper", []),  # its answers are late, and that is counted
}


@pytest.mark.parametrize("fault", FAULTS)
def test_training_finishes_with_correct_rows(
    fault: str, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    number, who, said = FAULTS[fault]
    agent = AgentController(WorkerSettings(str(model)))
    until(agent, lambda: agent.state == "ready")
    assert agent.keeper is not None
    keeper = psutil.Process(agent.keeper)
    victims = {"keeper": keeper, "worker": keeper.children()[0]}
    train(Faulty(agent, lambda: victims[who].send_signal(number), silent=fault == "stop the keeper"))
    assert agent.counts.asked > 0
    assert agent.counts.failed + agent.counts.late + agent.counts.skipped > 0
    warnings = warnings_of(caplog)
    assert len(warnings) == len(said)
    assert all(words in warning for words, warning in zip(said, warnings))
    for process in victims.values():
        process.wait(30)


@pytest.mark.parametrize("fault", ["missing", "truncated", "random"])
def test_training_with_a_file_that_is_no_model_is_training_with_the_default_plan(
    fault: str, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "some.gguf"
    if fault != "missing":
        whole = model.read_bytes()
        path.write_bytes(
            whole[: len(whole) // 2] if fault == "truncated" else random.Random(0).randbytes(5000)
        )
    agent = AgentController(WorkerSettings(str(path)))
    until(agent, lambda: agent.state == "refused")
    assert train(agent) == Plan(interval=4, prior="none")
    (warning,) = warnings_of(caplog)
    assert warning.startswith("agent: it is off for good: ")
    assert str(path) in warning
    assert warning.endswith("; the last good plan stays")


class OfKeeper(Faulty):
    """Hears nothing in time from a keeper that the test plays, and lets that play after each decision."""

    def __init__(self, agent: AgentController, play: Callable[[], None]) -> None:
        super().__init__(agent)
        self.interval, self.silent, self.play = 3, True, play

    def decide(self, evidence: Evidence) -> Plan:
        plan = super().decide(evidence)
        self.play()
        return plan


def test_training_with_a_full_pipe_is_training_with_the_default_plan(
    keeper: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rudder.agent.worker.channel._MOST_WAITING", 0)
    monkeypatch.setattr("rudder.agent.worker.client.Channel", _short_pipe)
    agent = AgentController(WorkerSettings("none", address=keeper.address))
    keeper.accept(State("ready"))
    assert train(OfKeeper(agent, lambda: None), 200) == Plan(interval=4, prior="none")
    assert agent.counts.asked > 0
    assert agent.counts.skipped > 0
    assert warnings_of(caplog) == [
        "agent: its keeper does not read what it is sent; the last good plan stays"
    ]


def _short_pipe(end: socket.socket) -> Channel:
    """A channel that takes the least that the kernel allows."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    return Channel(end)


def test_training_with_late_answers_is_training_with_the_default_plan(
    keeper: Any, caplog: pytest.LogCaptureFixture
) -> None:
    agent = AgentController(WorkerSettings("none", address=keeper.address))
    keeper.accept(State("ready"))
    asked: list[Ask] = []

    def answer_the_one_before() -> None:
        asked.extend(keeper.asks())
        for ask in asked[:-1]:
            keeper.say(Answer(ask.id, str(Plan(interval=4, depth=3, prior="none"))))
        del asked[:-1]

    assert train(OfKeeper(agent, answer_the_one_before)) == Plan(interval=4, prior="none")
    assert agent.counts.late == agent.counts.asked - 1 > 3  # one is under way
    assert agent.counts.valid == 0
    assert warnings_of(caplog) == []


def test_training_is_steered(model: Path) -> None:
    agent = AgentController(WorkerSettings(str(model)))
    until(agent, lambda: agent.state == "ready")
    train(Faulty(agent))
    assert agent.counts.valid >= 2
    assert agent.counts.changed > 0
    assert agent.counts.invalid == 0


@pytest.mark.parametrize("source", ["the pilot", "random weights"])
def test_in_the_papers_mode_a_model_says_yes_or_no_and_nothing_else(source: str, model: Path) -> None:
    agent = AgentController(WorkerSettings("" if source == "the pilot" else str(model)))
    until(agent, lambda: agent.state == "ready")
    controller = InPapersMode(agent)
    settings = PolicySettings(period=0, alpha=0.1)
    train(controller, 61, policy="score", policy_settings=settings, capacity=1000)
    assert agent.counts.asked == agent.counts.valid == 15
    for answer in controller.answers:
        assert answer.but(replace=True, fraction=100) == Plan(interval=4, prior="none")
