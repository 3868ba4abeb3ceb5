"""What these tests share: an interval like any other, and a GPU made of memory whose tensors are torch's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from rudder import _core
from rudder.gpu import Gpu
from rudder.metrics import IntervalMetrics
from rudder.plan import Plan


class SimulatedStreams:
    """The caller's stream and Rudder's own."""

    def __init__(self, runtime: _core.SimulatedGpu) -> None:
        self.own = runtime.make_stream()
        self.now = 0
        self.handed: list[Any] = []

    def current(self) -> int:
        return self.now

    @contextlib.contextmanager
    def ahead(self) -> Iterator[None]:
        self.now = self.own
        try:
            yield
        finally:
            self.now = 0

    def hand_over(self, tensors: Iterable[Any]) -> None:
        assert self.now == 0
        self.handed = list(tensors)


@pytest.fixture(scope="session")
def simulated() -> Callable[..., tuple[Gpu, _core.SimulatedGpu]]:
    """Makes a GPU, and what steps it and tells of it."""

    def make(mode: str = "eager", **settings: Any) -> tuple[Gpu, _core.SimulatedGpu]:
        runtime = _core.SimulatedGpu(mode=mode, **settings)
        return Gpu(_core.Gpu(runtime), "cpu", SimulatedStreams(runtime)), runtime

    return make


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
