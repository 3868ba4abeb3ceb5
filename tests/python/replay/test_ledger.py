"""A ledger in Python's hands gives the rows of a replay and of a recorded log, and clones go on alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rudder import _core
from rudder.errors import ConfigError, IdError, StateError

ROWS = 120
NOTHING = np.empty(0, dtype=np.int64)


def trace(seed: int, minibatches: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Low ids more often than high ones; some minibatches are empty, some rows repeat."""
    random = np.random.default_rng(seed)
    parts = [(random.random(random.integers(0, 25)) ** 2 * ROWS).astype(np.int64) for _ in range(minibatches)]
    return np.concatenate(parts), np.cumsum([0, *map(len, parts)])


def worth(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(ROWS).astype(np.float32)


def ledger(policy: str = "lookahead", capacity: int = 20, **settings: object) -> _core.Ledger:
    return _core.Ledger(id_space=ROWS, policy=policy, capacity=capacity, **settings)


@pytest.mark.parametrize("policy", _core.policy_names())
@pytest.mark.parametrize(("window", "window_rows", "depth"), [(0, 0, 1), (7, 0, 0), (0, 60, 2), (3, 40, 0)])
def test_a_run_is_a_replay(policy: str, window: int, window_rows: int, depth: int) -> None:
    ids, offsets = trace(1)
    some = ledger(policy, depth=depth, prior=_core.Prior.from_worth(worth(1)), period=5)
    moved = some.run(ids, offsets, window=window, window_rows=window_rows)
    answer = _core.replay(
        ids,
        offsets,
        policy,
        20,
        prior=worth(1),
        window=window,
        window_rows=window_rows,
        depth=depth,
        period=5,
    )
    counted = some.counters()
    assert len(moved) == len(offsets) - 1
    assert moved.sum() == counted["rows_moved"] == answer["rows_moved"]
    assert counted["rows_requested"] == answer["rows_requested"]
    assert (counted["rows_hit"], counted["rows_merged"]) == (answer["hits"], answer["merged"])
    assert counted["rows_replaced"] == answer["replacement_rows"]
    assert counted["minibatches"] == len(moved)


@given(seed=st.integers(0, 2**31), policy=st.sampled_from(_core.policy_names()), data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_sequence_of_calls_gives_the_rows_of_its_log(seed: int, policy: str, data: st.DataObject) -> None:
    random = np.random.default_rng(seed)
    some = ledger(policy, depth=1)
    calls: list[tuple[str, int, np.ndarray]] = []
    priors: list[_core.Prior] = []
    steps = st.sampled_from(["foresee"] * 2 + ["execute"] * 2 + ["read", "capacity", "prior", "depth"])
    for name in data.draw(st.lists(steps, min_size=5, max_size=60)):
        ids, number = NOTHING, 0
        if name == "foresee":
            ids = random.integers(0, ROWS, random.integers(0, 30))
            some.foresee(ids)
        elif name == "execute":
            if some.counters()["window_minibatches"] == 0:
                continue
            some.execute()
        elif name == "read":
            ids = random.integers(0, ROWS, random.integers(0, 30))
            some.read(ids)
        elif name == "capacity":
            number = int(random.integers(0, 40))
            some.steer(capacity_rows=number)
        elif name == "depth":
            number = int(random.integers(0, 4))
            some.steer(depth=number)
        else:
            priors.append(_core.Prior.from_worth(worth(int(random.integers(100)))))
            some.steer(prior=priors[-1])
        calls.append((name, number, ids))
    first = calls and calls[0][0] == "prior"  # what a log begins with is what its policy starts with
    answer = _core.replay_log(
        [("read", 0, NOTHING), *calls] if first else calls,
        id_space=ROWS,
        policy=policy,
        capacity=20,
        depth=1,
        priors=priors,
    )
    counted = some.counters()
    assert counted["rows_moved"] == answer["rows_moved"]
    assert counted["rows_requested"] == answer["rows_requested"]
    assert (counted["rows_hit"], counted["rows_merged"]) == (answer["hits"], answer["merged"])


@pytest.mark.parametrize("policy", _core.policy_names())
def test_a_run_in_pieces_with_clones_in_between_is_one_run(policy: str) -> None:
    ids, offsets = trace(2)
    window = {"window_rows": 50}
    whole = ledger(policy, depth=2).run(ids, offsets, **window)
    some = ledger(policy, depth=2)
    parts = []
    for begin in range(0, 60, 15):
        other = some.clone()
        other.steer(capacity_rows=3, depth=0)
        other.run(ids, offsets, begin=begin, end=60, **window)
        some = some.clone()
        parts.append(some.run(ids, offsets, begin=begin, end=begin + 15, **window))
    assert np.array_equal(np.concatenate(parts), whole)


def test_steering_takes_rows_out_and_counts_them() -> None:
    some = ledger(capacity=4)
    some.foresee(np.arange(4))
    assert some.execute() == 4
    some.steer(capacity_rows=1)
    some.invalidate(np.arange(4))
    assert some.counters()["rows_evicted"] == 4
    assert some.counters()["cached_rows"] == 0
    assert some.read(np.arange(4)) == 4
    some.foresee(np.arange(3))
    some.drop_pending()
    assert some.counters()["window_minibatches"] == 0


def test_what_cannot_be_is_refused() -> None:
    some = ledger()
    with pytest.raises(StateError, match="foresee"):
        some.execute()
    for call in (some.foresee, some.read, some.invalidate):
        with pytest.raises(IdError, match="120"):
            call(np.array([1, ROWS]))
    with pytest.raises(IdError):
        some.foresee(np.array([-1]))
    with pytest.raises(IdError):
        some.run(np.array([ROWS]), np.array([0, 1]))
    with pytest.raises(ConfigError, match="minibatches"):
        some.run(np.array([1]), np.array([0, 1]), begin=1, end=3)
    with pytest.raises(ConfigError):
        ledger(capacity=-1)
    with pytest.raises(ConfigError):
        ledger("clock")
    with pytest.raises(ConfigError):
        some.steer(depth=-1)
