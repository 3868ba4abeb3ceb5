"""What the tests of every folder may use."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from rudder import _core
    from rudder.gpu import Gpu

#: Where real graphs and recorded traces may lie; RUDDER_SHARED names another place. Tests that are made from
#: files there find the place in the same variable.
SHARED = Path(os.environ.get("RUDDER_SHARED") or Path(__file__).resolve().parents[2] / "shared")
os.environ["RUDDER_SHARED"] = str(SHARED)


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """The path of an optional file, e.g. "data/ogbn_arxiv.npz"; skips the test where it is absent."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"no {path} (optional; RUDDER_SHARED names the folder of shared data)")
        return path

    return find


# Tensors of simulated GPUs.
_MADE: list[Any] = []


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
    """Makes a GPU of memory, whose tensors are torch's, and what steps it and tells of it."""
    from rudder import _core
    from rudder.gpu import Gpu

    class Kept(Gpu):
        """Its tensors stay, as a real one's do until its work is done: a failed test's GPU still writes."""

        def __init__(self, runtime: _core.SimulatedGpu, *args: Any) -> None:
            super().__init__(*args)
            self._runtime = runtime

        def empty(self, *args: Any) -> Any:
            made = super().empty(*args)
            _MADE.append(made)
            self._runtime.lend(made.data_ptr(), made.numel() * made.element_size())
            return made

    def make(mode: str = "eager", **settings: Any) -> tuple[Gpu, _core.SimulatedGpu]:
        runtime = _core.SimulatedGpu(mode=mode, **settings)
        return Kept(runtime, _core.Gpu(runtime), "cpu", SimulatedStreams(runtime)), runtime

    return make
