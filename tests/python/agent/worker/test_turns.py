"""Every trainer gets its turn, with its newest ask, while somebody still wants the answer."""

from __future__ import annotations

from rudder.agent.space import Space
from rudder.agent.worker.protocol import Ask
from rudder.agent.worker.turns import Turns, with_time_left
from rudder.plan import Plan


def ask(number: int, deadline_ms: float = 1000.0) -> Ask:
    return Ask(number, f"{Plan()} | ", Space(), deadline_ms)


def test_a_trainer_that_asks_often_does_not_keep_another_waiting() -> None:
    turns = Turns()
    served = []
    turns.put(2, ask(0), 0.0)
    for number in range(4):
        turns.put(1, ask(number), 0.0)
        turn = turns.take()
        assert turn is not None
        served.append((turn[0], turn[1].id))
        turns.put(served[-1][0], ask(10 + number), 0.0)
    assert [trainer for trainer, _ in served] == [2, 1, 2, 1]


def test_the_newest_ask_takes_the_place_of_the_older() -> None:
    turns = Turns()
    turns.put(1, ask(1), 0.0)
    turns.put(2, ask(2), 0.0)
    turns.put(1, ask(3), 0.5)
    assert turns.take() == (1, ask(3), 1.5)
    assert turns.take() == (2, ask(2), 1.0)
    assert turns.take() is None


def test_an_ask_expires_where_it_waits() -> None:
    turns = Turns()
    turns.put(1, ask(1, 100), 0.0)
    turns.put(2, ask(2, 300), 0.0)
    assert turns.next_expiry() == 0.1
    assert turns.expired(0.05) == []
    assert turns.expired(0.2) == [(1, ask(1, 100))]
    assert len(turns) == 1
    turns.forget(2)
    assert turns.next_expiry() is None


def test_time_spent_waiting_is_taken_from_the_deadline() -> None:
    assert round(with_time_left(ask(1, 500), 10.5, 10.2).deadline_ms) == 300
    assert with_time_left(ask(1, 500), 10.5, 11.0).deadline_ms == 0.0
