"""What a worker says, played by the test over its socket, without a process."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from rudder.agent.worker.channel import Channel
from rudder.agent.worker.decider import probe
from rudder.agent.worker.keeper import Keeper
from rudder.agent.worker.protocol import VERSION, Answer, Hello, State, to_line
from rudder.agent.worker.settings import WorkerSettings
from rudder.agent.worker.watched import LONGEST_PAUSE_S, MOST_FAILURES, Watched
from rudder.plan import Plan

ASK = probe(5, 60_000.0)
ANSWER = Answer(ASK.id, str(Plan()), {"total_ms": 1.5})
TRAINER = 3


class Played:
    """A worker under watch that the test plays."""

    def __init__(self) -> None:
        own, self.end = socket.socketpair()
        self.watched = Watched(WorkerSettings("none"))
        self.watched.channel = Channel(own)

    def again(self) -> tuple[Any, socket.socket]:
        """Another worker, of whose process nothing is known."""
        self.end.close()
        own, self.end = socket.socketpair()
        return None, own

    def says(self, *lines: bytes, now: float = 0.0) -> object:
        self.end.sendall(b"".join(lines))
        return self.watched.receive(now)


@pytest.fixture
def played() -> Iterator[Played]:
    found = Played()
    yield found
    found.watched.close()
    found.end.close()


@pytest.mark.parametrize("after", [b"and so on\n", to_line(ANSWER), to_line(State("refused", "enough"))])
def test_an_answer_before_nonsense_is_an_answer(played: Played, after: bytes) -> None:
    assert played.says(to_line(State("ready"))) is None
    played.watched.ask(TRAINER, ASK, 0.0)
    assert played.says(to_line(ANSWER), after) == (TRAINER, ANSWER)
    assert played.watched.state.state == ("refused" if b"refused" in after else "restarting")
    assert played.watched.asked is None


def test_a_model_that_is_unavailable_is_tried_without_end(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rudder.agent.worker.watched.start_worker", lambda settings: played.again())
    pauses, now = [], 0.0
    for _ in range(10 * MOST_FAILURES):
        assert played.says(to_line(State("restarting", "nobody there")), now=now) is None
        assert played.watched.state == State("restarting", "nobody there")
        assert played.watched.next_tick is not None
        pauses.append(played.watched.next_tick - now)
        now = played.watched.next_tick
        played.watched.tick(now)
    assert pauses[:3] == [0.5, 1.0, 2.0]
    assert pauses[-1] == LONGEST_PAUSE_S
    # What is wrong with the worker itself is given up all the same, and no sooner.
    for number in range(1, MOST_FAILURES + 1):
        played.says(b"nonsense\n", now=now)
        assert played.watched.state.state == ("refused" if number == MOST_FAILURES else "restarting")
        now = played.watched.next_tick or now
        played.watched.tick(now)


def test_a_cost_without_the_workers_own_stops_no_keeper() -> None:
    own, other = socket.socketpair()
    keeper, trainer = Keeper(WorkerSettings("none")), Channel(other)
    keeper.serve(own, os.getpid())
    keeper._deliver((0, ANSWER))
    hello, _, answer = trainer.receive()
    assert isinstance(hello, Hello)
    assert isinstance(answer, Answer)
    assert (answer.plan, answer.cost["total_ms"]) == (ANSWER.plan, 1.5)
    assert answer.cost["rss_bytes"] > 0  # the keeper's
    trainer.close()


def test_cpu_time_is_billed_once_also_when_a_worker_was_started_anew() -> None:
    own, other = socket.socketpair()
    keeper, trainer = Keeper(WorkerSettings("none")), Channel(other)
    keeper.serve(own, os.getpid())

    def billed(cpu_seconds: float) -> float:
        keeper._deliver((0, Answer(ASK.id, str(Plan()), {"cpu_seconds": cpu_seconds})))
        return [each for each in trainer.receive() if isinstance(each, Answer)][-1].cost["cpu_ms"]

    def ready(cpu_seconds: float) -> None:
        keeper._watched.state = State("ready", report={"cpu_seconds": cpu_seconds})
        keeper._show_state()

    ready(100.0)  # of loading, which nobody pays
    assert billed(103.0) == pytest.approx(3000, abs=500)  # and what the keeper itself used
    assert billed(105.0) == pytest.approx(2000, abs=500)
    assert billed(0.5) == 0  # another worker, which nobody told of
    keeper._watched.state = State("restarting")
    keeper._show_state()
    ready(0.75)
    assert billed(1.75) == pytest.approx(1000, abs=500)
    assert billed(1.75) == pytest.approx(0, abs=500)
    trainer.close()


def test_an_answer_tells_how_long_its_ask_waited_for_its_turn(played: Played) -> None:
    own, other = socket.socketpair()
    keeper, trainer = Keeper(WorkerSettings("none")), Channel(other)
    keeper.serve(own, os.getpid())
    keeper._watched = played.watched
    played.watched.state = State("ready")
    played.watched._at = None
    keeper._turns.put(0, ASK, time.monotonic() - 7)
    trainer.send(Hello(VERSION))
    keeper._step()
    assert not len(keeper._turns)
    keeper._deliver((0, Answer(ASK.id, str(Plan()), {"total_ms": 6.0})))
    answer = [each for each in trainer.receive() if isinstance(each, Answer)][-1]
    assert answer.cost["total_ms"] == 6.0
    assert answer.cost["queue_ms"] == pytest.approx(7000, abs=500)
    trainer.close()
