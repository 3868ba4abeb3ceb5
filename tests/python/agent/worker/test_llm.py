"""The agent's controller against a keeper that does what the test wants: it never waits and never raises."""

from __future__ import annotations

import logging
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rudder.agent.controller import Ahead, Reporting, make_controller
from rudder.agent.evidence import Evidence
from rudder.agent.llm import ASK_AGAIN, AgentController
from rudder.agent.worker.protocol import LATE, Answer, Failed, State
from rudder.agent.worker.settings import WorkerSettings
from rudder.plan import Plan

#: A question and a decision may cost the trainer so much, whatever the keeper does; they take some 50 us.
BOUND_S = 0.001
READY = State("ready", report={"decision_ms": 6.0, "rss_bytes": 5})
Make = Callable[..., Evidence]


@pytest.fixture
def agent(keeper: Any) -> Iterator[AgentController]:
    """A controller that is connected to the fake keeper, which is ready."""
    controller = AgentController(WorkerSettings("none", address=keeper.address), "rank 0")
    keeper.accept(READY)
    yield controller
    controller.close()


WIDER = Plan(window=6.0)
STEP = {"plan": str(WIDER), "cost": {"cpu_ms": 4.0, "total_ms": 6.5, "rss_bytes": 7}}


def interval(agent: AgentController, keeper: Any, evidence: Make, number: int = 0, **says: Any) -> Plan:
    """An interval: asked before its end, answered with what the keeper says, decided on."""
    agent.ask(evidence(interval=number, done=30))
    for ask in keeper.asks() if says else ():
        keeper.say(Answer(ask.id, **says))
    return agent.decide(evidence(interval=number))


def test_an_answer_is_there_by_the_end_of_the_interval_that_it_is_about(
    agent: AgentController, keeper: Any, evidence: Make
) -> None:
    agent.ask(evidence(interval=0, done=30))
    (ask,) = keeper.asks()
    assert ask.evidence.startswith(f"{Plan()} | ")
    assert ask.deadline_ms == pytest.approx(200)  # two steps of 100 ms
    keeper.say(Answer(ask.id, **STEP))
    assert agent.decide(evidence(interval=0)) == WIDER
    assert keeper.asks() == []
    agent.ask(evidence(WIDER, interval=1, done=31))  # all of it under the new plan: it is asked about at once
    (ask,) = keeper.asks()
    assert ask.evidence.startswith(f"{WIDER} | ")
    assert (agent.counts.asked, agent.counts.valid, agent.counts.changed) == (2, 1, 1)


def test_the_lead_is_the_time_of_answers_in_steps(
    agent: AgentController, keeper: Any, evidence: Make
) -> None:
    agent.decide(evidence())  # which hears of the load report: 6 ms
    step = evidence().metrics
    assert agent.lead(step) == 1
    assert agent.lead(replace(step, seconds_wall=32 * 0.002)) == 3
    assert agent.lead(replace(step, seconds_wall=32 * 0.0001)) == 8  # a quarter of the interval, at most
    interval(agent, keeper, evidence, **{**STEP, "cost": {"total_ms": 450.0}})
    assert agent.lead(step) == 5
    assert interval(agent, keeper, evidence, 1) == Plan()  # late: it had 200 ms, and takes 400 at least
    assert agent.lead(step) == 5
    assert agent.lead(replace(step, seconds_wall=0.0)) == 8
    for number in range(2, 10):
        interval(agent, keeper, evidence, number, **STEP)
    assert agent.lead(step) == 1  # it was a bad moment


def test_the_lead_covers_the_wait_for_a_turn_and_slowness_does_not(
    agent: AgentController, keeper: Any, evidence: Make, caplog: pytest.LogCaptureFixture
) -> None:
    # A quarter of an interval is 800 ms: the model is quick enough, however long it served others before.
    interval(agent, keeper, evidence, **{**STEP, "cost": {"total_ms": 50.0, "queue_ms": 350.0}})
    assert agent.lead(evidence().metrics) == 4
    assert agent.report().decision_ms == 50.0
    interval(agent, keeper, evidence, 1, **{**STEP, "cost": {"total_ms": 50.0, "queue_ms": 5000.0}})
    assert agent.lead(evidence().metrics) == 8
    interval(agent, keeper, evidence, 2, **STEP)
    assert (agent.counts.asked, agent.counts.skipped, caplog.records) == (3, 0, [])


def test_it_reports_what_it_did(agent: AgentController, keeper: Any, evidence: Make) -> None:
    interval(agent, keeper, evidence, 4, **STEP)
    assert isinstance(agent, Reporting)
    assert isinstance(agent, Ahead)
    report = agent.report()
    assert (report.valid, report.late, report.failed, report.answered) == (1, 0, 0, 4)
    assert (report.cpu_seconds, report.decision_ms, report.memory_bytes) == (0.004, 6.5, 7)
    assert report.state == "ready"


def test_a_late_answer_is_dropped_and_counted(agent: AgentController, keeper: Any, evidence: Make) -> None:
    assert interval(agent, keeper, evidence, 0) == Plan()
    (late,) = keeper.asks()
    assert agent.counts.late == 1
    keeper.say(Answer(late.id, **STEP))
    assert interval(agent, keeper, evidence, 1) == Plan()
    assert (agent.counts.valid, agent.counts.late) == (0, 2)  # the second question has no answer either


def test_what_the_model_gives_up_at_the_deadline_is_late_and_no_trouble(
    agent: AgentController, keeper: Any, evidence: Make, caplog: pytest.LogCaptureFixture
) -> None:
    agent.ask(evidence(done=30))
    keeper.say(Failed(keeper.asks()[0].id, LATE))
    assert agent.decide(evidence()) == Plan()
    assert (agent.counts.late, agent.counts.failed, caplog.records) == (1, 0, [])
    assert agent.lead(evidence().metrics) == 4  # 200 ms were too few


def test_an_answer_about_a_plan_that_is_gone_is_dropped(
    agent: AgentController, keeper: Any, evidence: Make
) -> None:
    agent.ask(evidence(done=30))
    keeper.say(Answer(keeper.asks()[0].id, **STEP))
    put_there = Plan(depth=3)
    assert agent.decide(evidence(put_there)) == put_there
    assert (agent.counts.valid, agent.counts.stale, agent.report().late) == (0, 1, 1)


@pytest.mark.parametrize("plan", ["", "v1 w=6", str(Plan(window=16.0)), str(Plan(prior="given")), "no"])
def test_a_plan_that_may_not_follow_is_invalid(
    plan: str, agent: AgentController, keeper: Any, evidence: Make, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(2):
        agent.ask(evidence(interval=number, done=31))
        keeper.say(Answer(keeper.asks()[0].id, plan))
        assert agent.decide(evidence(interval=number)) == Plan()
    assert agent.counts.invalid == 2
    assert agent.report().failed == 2
    assert len(caplog.records) == 1
    assert "last good plan stays" in caplog.text


@pytest.mark.parametrize(
    "line", [b"yes, replace it!\n", b"\x00\xff\n", b"{}\n", b'{"kind":"answer","id":1}\n']
)
def test_garbage_is_no_answer(line: bytes, agent: AgentController, keeper: Any, evidence: Make) -> None:
    agent.ask(evidence(done=31))
    keeper.asks()
    keeper.end.send(line)
    assert agent.decide(evidence()) == Plan()
    assert agent.counts.invalid == 1
    assert interval(agent, keeper, evidence, 1, **STEP) == WIDER  # and the next one is taken again


def test_a_failure_is_counted_and_warned_of_once(
    agent: AgentController, keeper: Any, evidence: Make, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        agent.ask(evidence(interval=number, done=31))
        keeper.say(Failed(keeper.asks()[0].id, "no memory"))
        assert agent.decide(evidence(interval=number)) == Plan()
    assert agent.counts.failed == 3
    assert [record.getMessage() for record in caplog.records] == [
        "agent: no memory; the last good plan stays"
    ]


def test_without_a_keeper_nothing_is_asked_until_there_is_one(
    keeper: Any, evidence: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = WorkerSettings("none", address=str(tmp_path / "not yet"))
    agent = AgentController(settings)
    for number in range(3):
        assert interval(agent, keeper, evidence, number) == Plan()
    assert len(caplog.records) == 1
    (tmp_path / "not yet").symlink_to(keeper.address)
    agent.decide(evidence(interval=3))
    keeper.accept(READY)
    agent.ask(evidence(interval=4, done=31))
    assert len(keeper.asks()) == 1
    agent.close()
    assert interval(agent, keeper, evidence, 5) == Plan()


def test_a_keeper_that_goes_is_found_again(agent: AgentController, keeper: Any, evidence: Make) -> None:
    agent.ask(evidence(interval=0, done=31))
    keeper.end.close()
    assert agent.decide(evidence(interval=0)) == Plan()
    assert (agent.counts.failed, agent.state) == (1, "restarting")
    agent.ask(evidence(interval=1, done=31))
    keeper.accept(READY)
    assert agent.decide(evidence(interval=1)) == Plan()
    assert interval(agent, keeper, evidence, 2, **STEP) == WIDER


def test_another_version_of_the_protocol_is_left_alone(
    keeper: Any, evidence: Make, caplog: pytest.LogCaptureFixture
) -> None:
    agent = AgentController(WorkerSettings("none", address=keeper.address))
    keeper.accept(READY, version=99)
    for number in range(3):
        assert interval(agent, keeper, evidence, number) == Plan()
    assert agent.state == "refused"
    assert "does not speak version" in caplog.text
    assert len(caplog.records) == 1


def test_a_refused_model_is_said_once_and_never_asked(
    agent: AgentController, keeper: Any, evidence: Make, caplog: pytest.LogCaptureFixture
) -> None:
    keeper.say(State("refused", "there is no model file x"))
    for number in range(3):
        assert interval(agent, keeper, evidence, number) == Plan()
    assert keeper.asks() == []
    assert [record.getMessage() for record in caplog.records] == [
        "agent: it is off for good: there is no model file x; the last good plan stays"
    ]
    assert agent.report().state == "refused: there is no model file x"


def test_a_model_slower_than_a_quarter_of_the_interval_is_told_what_it_would_need(
    agent: AgentController, keeper: Any, evidence: Make, caplog: pytest.LogCaptureFixture
) -> None:
    keeper.say(State("ready", report={"decision_ms": 1250.0}))
    for number in range(ASK_AGAIN - 1):
        interval(agent, keeper, evidence, number)
    assert keeper.asks() == []
    assert (
        "takes 1250 ms, a quarter of an interval of 32 minibatches has 800 ms: it needs an interval of 52"
        in caplog.text
    )
    agent.ask(evidence(interval=ASK_AGAIN, done=24))
    (again,) = keeper.asks()
    assert again.deadline_ms == 5000
    # It was a bad moment: decisions are quick now.
    keeper.say(Answer(again.id, **STEP))
    assert agent.decide(evidence(interval=ASK_AGAIN)) == WIDER
    agent.ask(evidence(WIDER, interval=ASK_AGAIN + 1, done=24))
    assert len(keeper.asks()) == 1


def test_no_interval_is_long_enough_for_some_models(
    agent: AgentController, keeper: Any, evidence: Make, caplog: pytest.LogCaptureFixture
) -> None:
    keeper.say(State("ready", report={"decision_ms": 1e6}))
    agent.ask(evidence(step=0.01, done=31))
    assert "use a smaller model" in caplog.text


@pytest.mark.parametrize("keeper_does", ["nothing", "not read", "write without end", "die"])
def test_the_trainer_waits_for_nothing(
    keeper_does: str, agent: AgentController, keeper: Any, evidence: Make
) -> None:
    if keeper_does == "not read":
        keeper.end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    keeper.end.setblocking(False)
    took = []
    for number in range(3000):
        if keeper_does == "write without end":
            while True:
                try:
                    keeper.end.send(b"x" * 4096)
                except (BlockingIOError, ConnectionError):
                    break
        elif keeper_does == "die" and number == 1500:
            keeper.end.close()
        so_far, evidence_now = evidence(interval=number, done=31), evidence(interval=number)
        begin = time.perf_counter()
        agent.ask(so_far)
        assert agent.decide(evidence_now) == Plan()
        took.append(time.perf_counter() - begin)
        if keeper_does == "write without end" and number == 50:
            break
    # The median: a single one may have been interrupted by anything else on this machine.
    assert statistics.median(took) < BOUND_S
    if keeper_does == "not read":
        assert agent.counts.skipped > 0  # its pipe is full


def test_the_name_makes_one_that_finds_its_keeper(
    keeper: Any, evidence: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUDDER_AGENT", keeper.address)
    agent = make_controller("agent")
    assert isinstance(agent, AgentController)
    keeper.accept(READY)
    agent.ask(evidence(done=31))
    assert len(keeper.asks()) == 1
    agent.close()


def test_logs_are_warnings(caplog: pytest.LogCaptureFixture, tmp_path: Path, evidence: Make) -> None:
    agent = AgentController(WorkerSettings("none", address=str(tmp_path / "nowhere")))
    agent.decide(evidence())
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
