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
    """Streams one tensor's calls to `rank-<r>.<tensor>.trace`, on a thread of its own. Thread-safe."""

    def __init__(
        self,
        folder: Path,
        tensor: str,
        rank: int,
        settings: dict[str, Any],
        drain: Callable[[], list[tuple[str, int, Ids]]],
        prior: Prior | None,
        halo: Ids | None = None,
    ) -> None:
        """``drain`` gives the core's calls since the last time; ``prior`` is in force now.

        ``halo``: ids of the halo, where they are known. Raises OSError.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"rank-{rank}.{_UNSAFE.sub('_', tensor)}{trace.SUFFIX}"
        self._drain = drain
        self._priors: deque[Prior] = deque()
        self._sampled: dict[int, float] = {}
        self._current: tuple[int, float, float] | None = None
        self._times: list[tuple[int, float, float, float]] = []
        self._changed = threading.Condition()
        self._news = False
        self._closing = False
        self._file = self.path.open("wb")
        self._write([trace.MAGIC, trace.header_frame({"tensor": tensor, "rank": rank, **settings})])
        if prior is not None:
            self._write([trace.prior_frame(prior.worth)])
        if halo is not None:
            self._write([trace.halo_frame(halo)])
        self._thread = threading.Thread(target=self._run, name="rudder-recorder", daemon=True)
        self._thread.start()

    def prior(self, prior: Prior) -> None:
        """A prior that comes into force; call it before the core gets it."""
        with self._changed:
            self._priors.append(prior)

    def sampled(self, minibatch: int, seconds: float) -> None:
        """A minibatch was submitted; sampling it took so long."""
        with self._changed:
            self._sampled[minibatch] = seconds

    def began(self, minibatch: int, waited: float) -> None:
        """The trainer has the rows of a minibatch, after waiting for them so long."""
        now = time.perf_counter()
        with self._changed:
            self._end_current(now - waited)
            self._current = (minibatch, waited, now)
            self._sampled = {number: spent for number, spent in self._sampled.items() if number >= minibatch}
            self._news = True
            self._changed.notify()

    def read(self) -> None:
        """The trainer read rows of no minibatch: without a loader nothing else tells that calls wait."""
        with self._changed:
            self._news = True
            self._changed.notify()

    def close(self) -> None:
        """Write the rest. Call while the core still answers. Idempotent."""
        with self._changed:
            self._end_current(time.perf_counter())
            self._closing = True
            self._changed.notify()
        self._thread.join()
        self._file.close()

    def _run(self) -> None:
        closing = False
        try:
            while not closing:
                with self._changed:
                    self._changed.wait_for(lambda: self._news or self._closing)
                    closing, self._news = self._closing, False
                    times, self._times = self._times, []
                frames = [self._frame(*call) for call in self._drain()]
                self._write(frames + [trace.times_frame(*each) for each in times])
        except OSError as error:  # a full disk costs the record, not the training
            _log.warning("accesses are no longer recorded to %s: %s", self.path, error)
            while not self._closing:  # what nobody writes must not pile up either
                with self._changed:
                    self._changed.wait_for(lambda: self._news or self._closing)
                    self._news = False
                    self._times.clear()
                self._drain()

    def _frame(self, name: str, number: int, ids: Ids) -> bytes:
        if name == "prior":
            return trace.prior_frame(self._priors.popleft().worth)
        return trace.call_frame(name, number, ids)

    def _end_current(self, now: float) -> None:
        if self._current is not None:
            minibatch, waited, since = self._current
            self._times.append((minibatch, self._sampled.pop(minibatch, 0.0), waited, max(0.0, now - since)))
            self._current = None

    def _write(self, frames: list[bytes]) -> None:
        self._file.write(b"".join(frames))
        self._file.flush()
