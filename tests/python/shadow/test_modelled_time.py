"""Modelled time in Python's hands; what it computes is tested in tests/cpp/shadow."""

from __future__ import annotations

import numpy as np
import pytest

from rudder._core import Feed, Ledger, Numbering, Pipeline
from rudder.errors import ConfigError, IdError, StateError


def feed(minibatches: int) -> Feed:
    some, chance = Feed(), np.random.default_rng(1)
    for _ in range(minibatches):
        ids = np.unique(chance.integers(0, 200, 40))
        some.append(
            ids, requests=len(ids), sampling=0.1, block_bytes=1.0, compute=1.0, row_seconds=0.05, latency=0.2
        )
    return some


def ledger() -> Ledger:
    return Ledger(id_space=200, capacity=50, depth=2)


def test_a_run_moves_what_the_ledger_says_as_many_times_as_ids_stand_for() -> None:
    some, once, eightfold = feed(20), Pipeline(2, 1000.0, 1e9), Pipeline(2, 1000.0, 1e9)
    book, other = ledger(), ledger()
    moved = once.run(some, book, 20)
    assert moved.sum() == book.counters()["rows_moved"] > 0
    assert (once.next, len(moved), book.counters()["minibatches"]) == (20, 20, 20)
    assert eightfold.run(some, other, 20, halvings=3).tolist() == (8 * moved).tolist()
    assert eightfold.clock > once.clock >= 20.0


def test_a_clone_goes_on_alone() -> None:
    some, pipeline, book = feed(20), Pipeline(2, 1000.0, 1e9), ledger()
    pipeline.run(some, book, 10)
    other, beside = pipeline.clone(), book.clone()
    other.run(some, beside, 20)
    assert (pipeline.next, other.next, book.counters()["minibatches"]) == (10, 20, 10)
    pipeline.run(some, book, 20)
    assert pipeline.clock == other.clock


def test_the_speed_of_a_link_is_found_again() -> None:
    some, pipeline, book = feed(20), Pipeline(2, 1000.0, 1e9), ledger()
    begin = pipeline.clone()
    moved = pipeline.run(some, book, 20)
    assert begin.row_seconds(some, moved, pipeline.fetching, 1e-3) == pytest.approx(0.05, rel=0.01)


def test_what_cannot_be_is_refused() -> None:
    some, pipeline = feed(5), Pipeline(2, 1000.0, 1e9)
    with pytest.raises(IdError, match="5"):
        pipeline.run(some, ledger(), 6)
    with pytest.raises(IdError, match="outside"):
        pipeline.run(some, Ledger(id_space=10, capacity=5), 5)
    with pytest.raises(ConfigError):
        Pipeline(-1, 1000.0, 1e9)
    with pytest.raises(IdError):
        some.ids(5)
    with pytest.raises(IdError):
        some.cost(4, 6, row_seconds=1.0)
    with pytest.raises(StateError):
        some.pass_by()
    with pytest.raises(IdError):
        Numbering().of(np.array([3, -1]))
