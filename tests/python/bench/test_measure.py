"""Rounds: everybody's turn, other rows each time, and no wrong byte unseen."""

from __future__ import annotations

import numpy as np
import pytest

from rudder.bench.measure import Rounds, Subject, Turn
from rudder.bench.plain import PlainGather
from rudder.bench.rows import fill


@pytest.fixture
def plain() -> PlainGather:
    return PlainGather([fill(np.empty((1000, 16), dtype=np.uint8), 1, 1)])


def rounds(plain: PlainGather, rows: int = 10, most_in_flight: int = 1, peers_cpu=lambda: 0.0) -> Rounds:
    return Rounds(
        plain,
        table_rows=1000,
        row_bytes=16,
        rows=rows,
        peers=1,
        most_in_flight=most_in_flight,
        rng=np.random.default_rng(0),
        peers_cpu=peers_cpu,
    )


def gathering(plain: PlainGather, name: str, calls: list, seconds: float = 0.01) -> Subject:
    def run(rows, out):
        plain.gather(rows, out, 1)
        calls.append((name, rows.copy()))
        return Turn(seconds, np.full(len(rows), 5000, dtype=np.int64))

    return Subject(run)


def test_turns_alternate_and_ask_for_other_rows(plain: PlainGather) -> None:
    calls: list = []
    subjects = [gathering(plain, name, calls) for name in "abc"]
    rounds(plain).run(subjects, seconds=0.04, repeats=4)
    assert "".join(name for name, _ in calls) == "abc" + "abc" + "cba" + "abc" + "cba"
    assert len({rows.tobytes() for _, rows in calls}) == len(calls)
    for subject in subjects:
        assert subject.verified
        assert len(subject.rates) == 4
        assert subject.rate == pytest.approx(subject.requests * 10 / 0.01)
        assert subject.percentile(50) == 5.0


def test_turns_fill_their_time_within_bounds(plain: PlainGather) -> None:
    calls: list = []
    slow, quick = gathering(plain, "slow", calls, 1.0), gathering(plain, "quick", calls, 1e-4)
    slow.least = 3
    rounds(plain, most_in_flight=3).run([slow, quick], seconds=0.1, repeats=2)
    assert slow.requests == 6  # no less than twice what is in flight
    assert quick.requests == 1000


@pytest.mark.parametrize("at", [0, -1])
def test_one_wrong_byte_in_any_turn_counts(plain: PlainGather, at: int) -> None:
    turns = []

    def run(rows, out):
        plain.gather(rows, out, 1)
        turns.append(len(rows))
        if len(turns) == 3:
            out[at, at] ^= 1
        return Turn(0.01, None)

    subject = Subject(run)
    rounds(plain).run([subject], seconds=0.05, repeats=5)
    assert len(turns) == 6
    assert not subject.verified


def test_rows_that_were_not_written_are_seen(plain: PlainGather) -> None:
    subject = Subject(lambda rows, out: Turn(0.01, None))
    rounds(plain).run([subject], seconds=0.01, repeats=1)
    assert not subject.verified


def test_both_sides_cpu_counts_where_it_is_metered(plain: PlainGather) -> None:
    clock = iter(range(1000))
    calls: list = []
    metered, other = gathering(plain, "metered", calls), gathering(plain, "other", calls)
    metered.metered = True
    rounds(plain, peers_cpu=lambda: float(next(clock))).run([metered, other], seconds=0.02, repeats=2)
    assert metered.cpu == pytest.approx(2.0, abs=0.5)
    assert other.cpu == 0
