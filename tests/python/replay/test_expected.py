"""Every row of the traces' `expected.csv`: replay equals what an independent simulator counted."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rudder import _core
from rudder.replay.expected import ExpectedRow, compare, read_expected
from rudder.replay.load import Case, load_case

TRACES = Path(os.environ["RUDDER_SHARED"]) / "traces"  # tests/conftest.py sees to it


@pytest.fixture(autouse=True)
def _skips_without_traces(shared: Callable[[str], Path]) -> None:
    shared("traces/expected.csv")


def expected() -> list[ExpectedRow]:
    """The rows of expected.csv that can be replayed; none where there is no such file."""
    path = TRACES / "expected.csv"
    return read_expected(path)[0] if path.is_file() else []


@functools.lru_cache(maxsize=1)  # the rows of a trace follow one another
def load(name: str) -> Case:
    return load_case(TRACES / f"{name}.npz")


@pytest.mark.parametrize("row", expected(), ids=lambda row: f"{row.trace}-{row.capacity_rows}-{row.policy}")
def test_rows_moved_as_expected(row: ExpectedRow) -> None:
    found = compare(load(row.trace), row)
    assert found.within, f"{found.moved} rows ({found.replaced} to replace), expected {row}"


def test_default_policy_stays_near_the_optimum() -> None:
    """Lookahead of four buffers of requests: 1.05 x MIN in the median, 1.10 at worst."""
    times_min = []
    for row in expected():
        if row.policy != "MIN" or row.capacity_fraction > 0.25:
            continue
        case, capacity = load(row.trace), row.capacity_rows
        answer = _core.replay(
            case.ids, case.offsets, "lookahead", capacity, prior=case.priors["vip"], window_rows=4 * capacity
        )
        assert answer["rows_moved"] <= answer["rows_requested"]
        times_min.append(answer["rows_moved"] / row.rows_moved)
    assert len(times_min) == 15
    assert np.median(times_min) <= 1.05
    assert max(times_min) <= 1.10
