"""Which results miss what the gathers are built to reach."""

from __future__ import annotations

import pytest

from rudder.bench.goals import GOALS, least_bytes, missed
from rudder.bench.gpu import GpuResult

L2 = 50 << 20  # of an H100
LEAST = least_bytes(L2)


def result(
    subject: str,
    row_bytes: int,
    ratio: float | None,
    speedup: float | None = 9.0,
    *,
    batch: int = LEAST,
    table: int = 1 << 30,
) -> GpuResult:
    rows = -(-batch // row_bytes)
    return GpuResult(subject, row_bytes, rows, table, 1.0, 1.0, ratio, speedup, True)


GOOD = [
    result("device, by int32", 512, 0.81),
    result("device, by int64", 4096, 0.95),
    result("device, the GPU's part", 512, 0.80),
    result("pinned, by int32", 1024, 0.86),
    result("pinned, by int64", 1024, 0.86),
    result("pinned, the GPU's part", 1024, 0.85),
    result("mixed", 512, None, 2.1),
    result("a whole batch", 64, None, 2.0),
]


def test_nothing_is_missed_where_all_goals_are_reached() -> None:
    assert missed(GOOD, LEAST) == []
    # Smaller rows are not judged.
    assert missed([*GOOD, result("pinned, by int64", 512, 0.1)], LEAST) == []


@pytest.mark.parametrize(
    ("worse", "named"),
    [
        (result("device, by int32", 4096, 0.79), "0.79 of a copy within the device, the goal is 0.80"),
        (result("device, by int64", 512, 0.5), "device, by int64, 512 B a row, 409,600 rows: 0.50"),
        (result("device, the GPU's part", 512, 0.79), "0.79 of a copy within the device"),
        (result("pinned, by int64", 4096, 0.84), "0.84 of a copy to the device, the goal is 0.85"),
        (result("pinned, the GPU's part", 1024, 0.84), "0.84 of a copy to the device"),
        (result("mixed", 1024, None, 1.9), "1.90 of index_select"),
        (result("a whole batch", 64, None, 1.9), "a whole batch, 64 B a row"),
    ],
)
def test_each_goal_can_be_missed(worse: GpuResult, named: str) -> None:
    (line,) = missed([*GOOD, worse], LEAST)
    assert named in line


def test_what_was_not_measured_is_no_goal_reached() -> None:
    assert len(missed([], LEAST)) == len(GOALS) == 8
    (line,) = missed(GOOD[1:], LEAST)
    assert line.startswith("device, by int32: not judged")


@pytest.mark.parametrize("small", [{"batch": 3 * L2}, {"table": 3 * L2}])
def test_what_a_cache_holds_is_not_judged(small: dict[str, int]) -> None:
    """A batch, or a table, of less than four times the L2."""
    assert missed([*GOOD, result("device, by int32", 512, 0.1, **small)], LEAST) == []
    (line,) = missed([*GOOD[1:], result("device, by int32", 512, 0.9, **small)], LEAST)
    assert "not judged, for want of a batch and a table of 210 MB" in line


def test_a_gpu_whose_cache_is_unknown_is_asked_for_more_than_any_has() -> None:
    assert least_bytes(None) == 512 << 20
    assert least_bytes(60_000_000) == 240_000_000
