"""Which results miss what the gathers are built to reach."""

from __future__ import annotations

import pytest

from rudder.bench.goals import missed
from rudder.bench.gpu import GpuResult


def result(subject: str, row_bytes: int, ratio: float | None, speedup: float | None = 9.0) -> GpuResult:
    return GpuResult(subject, row_bytes, 100_000, 1.0, 1.0, ratio, speedup, True)


GOOD = [
    result("device, by int32", 512, 0.81),
    result("device, by int64", 4096, 0.95),
    result("pinned, by int64", 1024, 0.86),
    result("mixed", 512, None, 2.1),
]


def test_nothing_is_missed_where_all_goals_are_reached() -> None:
    assert missed(GOOD) == []
    # Smaller rows, and batches that fit a cache, are not judged.
    assert missed([*GOOD, result("pinned, by int64", 512, 0.1), result("mixed", 64, None, 0.1)]) == []


@pytest.mark.parametrize(
    ("worse", "named"),
    [
        (result("device, by int32", 4096, 0.79), "0.79 of a copy within the device, the goal is 0.80"),
        (result("device, by int64", 512, 0.5), "device, by int64, 512 B a row, 100,000 rows: 0.50"),
        (result("pinned, by int64", 4096, 0.84), "0.84 of a copy to the device, the goal is 0.85"),
        (result("mixed", 1024, None, 1.9), "1.90 of index_select"),
    ],
)
def test_each_goal_can_be_missed(worse: GpuResult, named: str) -> None:
    (line,) = missed([*GOOD, worse])
    assert named in line


def test_what_was_not_measured_is_no_goal_reached() -> None:
    assert len(missed([])) == 4
    (line,) = missed(GOOD[1:])
    assert line.startswith("device, by int32: not judged")
