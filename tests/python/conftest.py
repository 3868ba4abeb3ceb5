"""What these tests share: a GPU made of this process's memory, whose tensors are torch's CPU tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from rudder import _core
from rudder.gpu import Gpu


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
