"""Minibatches that were handed to the trainer, and the rows that it will ask for by their ids."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rudder.errors import ClosedError, DeadlineError
from rudder.minibatch import Minibatch
from rudder.source import Bytes, Ids

if TYPE_CHECKING:
    from rudder._core import Prefetcher as Core

# Minibatches whose rows the trainer may not have asked for yet: scripts that draw one minibatch ahead of
# the one they train on need 2. More would keep the window from moving on.
_OPEN = 2
# How long Ctrl-C may go unnoticed in a wait for rows.
_SLICE_SECONDS = 0.25


class Claims:
    """Which announced minibatches are open, and which of them was taken last.

    **Invariants**: `_open` is in ascending order of `seq`, at most `_OPEN` long, and none is below
    `_taken`, since the core releases every minibatch before the one that is taken. Thread-safe.
    """

    def __init__(self, core: Core, row_bytes: int) -> None:
        """Start with nothing announced."""
        self._core, self._row_bytes = core, row_bytes
        self._lock = threading.RLock()
        self._open: list[Minibatch] = []
        self._taken = 0

    def announce(self, minibatch: Minibatch) -> Taken | None:
        """The trainer begins this minibatch. An older one that it never asked for is taken, to move on."""
        with self._lock:
            self._open.append(minibatch)
            return self._take(self._open[-_OPEN]) if len(self._open) > _OPEN else None

    def read(self, ids: Ids, out: Bytes) -> Taken | None:
        """Copy the rows of ``ids`` if an open minibatch, or a part of one, has just these; else None."""
        return self._read(ids, lambda minibatch, part: self._gather(minibatch, part, out))

    def read_on_device(self, ids: Ids, out: DeviceRows) -> Taken | None:
        """The same into GPU memory. None also for one part of several: the loader gathered those ahead."""
        return self._read(ids, lambda minibatch, part: self._gather_on_device(minibatch, out), whole=True)

    def _read(
        self, ids: Ids, gather: Callable[[Minibatch, int], None], *, whole: bool = False
    ) -> Taken | None:
        with self._lock:
            for minibatch in reversed(self._open):
                part = minibatch.find(ids)
                if part is not None and not (whole and len(minibatch.parts) > 1):
                    taken = self._take(minibatch)
                    began = time.perf_counter()
                    gather(minibatch, part)
                    taken.gathering = time.perf_counter() - began
                    return taken
        return None

    def gather_ahead(self, minibatch: Minibatch, out: DeviceRows, *, wait: bool) -> Taken | None:
        """Queue the copy of a minibatch's rows into GPU memory before the trainer asks for them.

        It counts as taken then, which releases the ones before it once the GPU is done with them. None where
        its rows are not here yet, with ``wait=False``.
        """
        with self._lock:
            if not wait and minibatch.seq > self._taken and not self._arrived(minibatch.seq, 0.0):
                return None
            taken = self._take(minibatch)
            began = time.perf_counter()
            self._gather_on_device(minibatch, out)
            taken.gathering = time.perf_counter() - began
            return taken

    def drop(self) -> None:
        """Forget all minibatches but those whose rows were taken."""
        with self._lock:
            # A closed core has forgotten them already.
            with contextlib.suppress(ClosedError):
                self._core.drop_pending()
            self._open = [minibatch for minibatch in self._open if minibatch.seq <= self._taken]

    def finish(self) -> None:
        """The trainer is done with every minibatch whose rows it asked for; they need not be kept."""
        with self._lock:
            if any(minibatch.seq == self._taken for minibatch in self._open):
                self._core.release(self._taken)
            self._open = [minibatch for minibatch in self._open if minibatch.seq > self._taken]

    def forget_staged(self) -> None:
        """The source was written to: gather what is kept of it anew."""
        with self._lock:
            for minibatch in self._open:
                minibatch.stage(None)

    def _take(self, minibatch: Minibatch) -> Taken:
        if minibatch.seq <= self._taken:
            return Taken(None)
        began = time.perf_counter()
        while not self._arrived(minibatch.seq):
            pass
        self._taken = minibatch.seq
        self._open = [other for other in self._open if other.seq >= minibatch.seq]
        return Taken(minibatch.seq, time.perf_counter() - began)

    def _arrived(self, seq: int, seconds: float = _SLICE_SECONDS) -> bool:
        """Wait for rows, but let Python handle signals (Ctrl-C) now and then."""
        try:
            self._core.take(seq, seconds)
        except DeadlineError as error:
            if error.part is None:  # only this slice of the waiting is over, not a peer's time to answer
                return False
            raise
        return True

    def _gather_on_device(self, minibatch: Minibatch, out: DeviceRows) -> None:
        self._core.gather_on_device(minibatch.seq, out.data, out.nbytes, out.stream)

    def _gather(self, minibatch: Minibatch, part: int, out: Bytes) -> None:
        if len(minibatch.parts) == 1:
            self._core.gather(minibatch.seq, out)
            return
        staged = minibatch.staged
        if staged is None:
            staged = np.empty((sum(len(each) for each in minibatch.parts), self._row_bytes), dtype=np.uint8)
            self._core.gather(minibatch.seq, staged)
            minibatch.stage(staged)
        out[...] = staged[minibatch.slice_of(part)]


class DeviceRows(NamedTuple):
    """GPU memory that rows go to, and the handle of the stream on which they arrive."""

    data: int
    nbytes: int
    stream: int


class Taken:
    """What taking a minibatch cost: its number (None: taken before), seconds waited and copying."""

    __slots__ = ("gathering", "seq", "waited")

    def __init__(self, seq: int | None, waited: float = 0.0) -> None:
        """Nothing copied yet."""
        self.seq, self.waited, self.gathering = seq, waited, 0.0
