"""Writes the record of a run's accesses, see `rudder.trace` for the format."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rudder import trace
from rudder.config import ENV_RECORD
from rudder.source import Ids

if TYPE_CHECKING:
    from rudder._core import Prior

_log = logging.getLogger("rudder")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.+-]+")


def record(folder: str | os.PathLike[str]) -> None:
    """Record the accesses of every tensor attached from now on to files in ``folder``, for `rudder replay`.

    The same as setting RUDDER_RECORD, or as ``record=`` of one `attach`.
    """
    os.environ[ENV_RECORD] = os.fspath(folder)


class Recorder:
    """Streams one tensor's calls to `rank-<r>.<tensor>.trace`. Thread-safe."""

    def __init__(
        self,
        folder: Path,
        tensor: str,
        rank: int,
        settings: dict[str, Any],
        drain: Callable[[], list[tuple[str, int, Ids]]],
        prior: Prior | None,
    ) -> None:
        """``drain`` gives the core's calls since the last time; ``prior`` is in force now. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"rank-{rank}.{_UNSAFE.sub('_', tensor)}{trace.SUFFIX}"
        self._drain = drain
        self._lock = threading.Lock()
        self._priors: deque[Prior] = deque()
        self._sampled: dict[int, float] = {}
        self._current: tuple[int, float, float] | None = None
        self._times: list[tuple[int, float, float, float]] = []
        self._file = self.path.open("wb")
        self._works = True
        self._write([trace.MAGIC, trace.header_frame({"tensor": tensor, "rank": rank, **settings})])
        if prior is not None:
            self._write([trace.prior_frame(prior.levels)])

    def prior(self, prior: Prior) -> None:
        """A prior that comes into force; call it before the core gets it."""
        with self._lock:
            self._priors.append(prior)

    def sampled(self, minibatch: int, seconds: float) -> None:
        """A minibatch was submitted; sampling it took so long."""
        with self._lock:
            self._sampled[minibatch] = seconds

    def began(self, minibatch: int, waited: float) -> None:
        """The trainer has the rows of a minibatch, after waiting for them so long."""
        now = time.perf_counter()
        with self._lock:
            self._end_current(now - waited)
            self._current = (minibatch, waited, now)
            self._sampled = {number: spent for number, spent in self._sampled.items() if number >= minibatch}

    def drain(self) -> None:
        """Write everything that happened since the last time."""
        with self._lock:
            if not self._works:
                return
            frames = [self._frame(*call) for call in self._drain()]
            frames += [trace.times_frame(*times) for times in self._times]
            self._times.clear()
            self._write(frames)

    def close(self) -> None:
        """Write the rest. Call while the core still answers."""
        with self._lock:
            self._end_current(time.perf_counter())
        self.drain()
        with self._lock:
            self._file.close()
            self._works = False

    def _frame(self, name: str, number: int, ids: Ids) -> bytes:
        if name == "prior":
            return trace.prior_frame(self._priors.popleft().levels)
        return trace.call_frame(name, number, ids)

    def _end_current(self, now: float) -> None:
        if self._current is not None:
            minibatch, waited, since = self._current
            self._times.append((minibatch, self._sampled.pop(minibatch, 0.0), waited, max(0.0, now - since)))
            self._current = None

    def _write(self, frames: list[bytes]) -> None:
        """A full disk costs the record, not the training."""
        try:
            self._file.write(b"".join(frames))
            self._file.flush()
        except OSError as error:
            self._works = False
            _log.warning("accesses are no longer recorded to %s: %s", self.path, error)
