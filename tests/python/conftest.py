"""What these tests share: an interval like any other."""

from __future__ import annotations

import pytest

from rudder.metrics import IntervalMetrics
from rudder.plan import Plan


@pytest.fixture(scope="session")
def usual() -> IntervalMetrics:
    """The metrics of an interval under the default plan, a second long, in which half of the rows moved."""
    return IntervalMetrics(
        tensor="t",
        rank=0,
        interval=0,
        minibatches=32,
        plan=Plan(),
        row_bytes=100,
        rows_requested=1000,
        rows_moved=500,
        seconds_wall=1.0,
        capacity_rows=1000,
        waiting_bytes=30_000,
    )
