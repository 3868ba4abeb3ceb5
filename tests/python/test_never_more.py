"""However small its buffer, a live run moves no more rows than one without any, replacements aside."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rudder import ArraySource, Options, Plan, Prefetcher, _core
from rudder.replay import Request, find_traces, load_case, replay_case
from rudder.trace import Call, TraceFile

ROWS, LOCAL = 60, 10
TABLE = np.arange(ROWS, dtype=np.int32)[:, None]
WORTH = np.random.default_rng(3).random(ROWS).astype(np.float32)


def moved(
    policy: str, asked: list[np.ndarray], capacity: int, plan: Plan, folder: Path, staging: int = 1 << 20
) -> int:
    """Rows that a live run moved; its record says the same."""
    source = ArraySource(TABLE, [0, LOCAL, ROWS], priors={"vip": lambda: WORTH, "degree": lambda: WORTH})
    options = Options(
        policy=policy, capacity=capacity, plan=plan, record=folder / policy, gap_meter=False, staging=staging
    )
    with Prefetcher(source, options) as table:
        for ids in table.iterate(asked, epochs=1):
            assert np.array_equal(table[ids], TABLE[ids])
    found = table.metrics().rows_moved
    (path,) = find_traces([folder / policy])
    (replayed,) = replay_case(load_case(path), Request())
    assert replayed.rows_moved == found
    return found


@pytest.mark.parametrize("policy", [name for name in _core.policy_names() if name not in ("none", "score")])
@settings(max_examples=25, deadline=None, derandomize="CI" in os.environ)
@given(
    capacity=st.integers(1, 12),
    depth=st.integers(1, 4),
    window=st.sampled_from([0.0, 1.0, 4.0]),
    size=st.integers(1, 12),
    spread=st.sampled_from([8, 20, ROWS - LOCAL]),
    seed=st.integers(0, 2**16),
)
def test_a_buffer_costs_no_rows(
    policy: str, capacity: int, depth: int, window: float, size: int, spread: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    asked = [LOCAL + rng.integers(0, spread, size) for _ in range(60)]
    plan = Plan(depth=depth, window=window)
    with tempfile.TemporaryDirectory() as folder:
        with_buffer = moved(policy, asked, capacity, plan, Path(folder))
        assert with_buffer <= moved("none", asked, capacity, plan, Path(folder))


@pytest.mark.parametrize("policy", ["none", "lru", "lookahead"])
def test_where_staging_is_short_rows_stop_serving_and_a_record_says_so(policy: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    asked = [LOCAL + rng.integers(0, ROWS - LOCAL, 12) for _ in range(60)]
    plan = Plan(depth=4, window=4.0)
    tight = moved(policy, asked, 4, plan, tmp_path, staging=1)
    assert tight <= sum(len(np.unique(ids)) for ids in asked)
    (path,) = find_traces([tmp_path / policy])
    assert any(isinstance(entry, Call) and entry.name == "unstage" for entry in TraceFile(path))
