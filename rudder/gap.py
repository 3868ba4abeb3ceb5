"""The gap meter: how far a live run is from MIN, estimated from a spatial sample of its own accesses.

As SHARDS does (Waldspurger et al., FAST 2015), an id belongs to the sample iff a hash of it lies below a
threshold, so that every access to a sampled id is seen, and none to another. MIN of the sample with a buffer
of capacity x rate, divided by the rate, estimates MIN of the run. The rate is a power of two, 1 (nothing is
estimated) where the accesses of an interval are few, and is only ever lowered: fixed-size SHARDS.

What MIN would have moved *in an interval* is MIN(all up to its end) - MIN(all up to its begin). These
differences add up to MIN of the whole run, and they are a fact about the interval: MIN may be had by deciding
at each access whether its row could have been kept since the last one, given what was decided so before
(Jain and Lin, ISCA 2016), so that later accesses change no earlier cost. What lies further back than several
buffers of rows is not kept access by access, only as the rows that it used; these count as offered to the
buffer for free where the kept accesses begin. That errs in MIN's favour, and by next to nothing once the
buffer has been full since.

The error stated is that of sampling: a standard error from disjoint classes of the sample, each with its
share of the buffer, scaled by sqrt(1 - rate); 0 at rate 1. Where the run is longer than what is kept, an
interval's figure errs by about 1% beside it, also at rate 1 (6% was the worst seen, on recorded traces), and
that of the whole run by less than 0.5%. What the decisions at hand do not tell, such as minibatches that
were fetched and then dropped, counts as rows moved and not as MIN's.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rudder.gap_sample import CLASSES, SAMPLE, STORED, History, Sampler
from rudder.metrics import Gap
from rudder.source import Ids

_log = logging.getLogger("rudder")

#: Share of an interval that its end may wait for the figure.
_PATIENCE = 0.005
#: Seconds that the end of a run may wait for the last figure.
_LAST_WAIT = 2.0
# Weight of a minibatch in the mean size of all: a few large ones are no reason to lower the rate for good.
_SMOOTHING = 1 / 32


class _Access(NamedTuple):
    """Sampled ids of one minibatch (its number), or of one read that no minibatch announced (None)."""

    seq: int | None
    ids: Ids


class _Interval(NamedTuple):
    """What the worker needs to know of an interval."""

    number: int
    capacity_rows: int
    rows_requested: int
    rows_moved: int
    halvings: int
    accesses: list[Ids]


class GapMeter:
    """Samples one table's accesses and computes their gap to MIN on a thread of its own. Thread-safe.

    **Invariant**: `_pending` is in the order in which the core executes: reads go before every minibatch that
    was not taken when they came.
    """

    def __init__(self, local: tuple[int, int]) -> None:
        """``local``: first id of the local partition, and the one after its last."""
        self._sampler = Sampler(*local)
        self._lock = threading.Lock()
        self._pending: deque[_Access] = deque()
        self._stored = 0
        #: Minibatches cut off `_pending`, net of those that the core took back when they were dropped.
        self._cut = 0
        self._taken = 0
        #: Sampled ids of a minibatch, smoothed.
        self._mean: float | None = None
        self._worker = _Worker()

    @property
    def rate(self) -> float:
        """Share of the ids that belong to the sample."""
        return float(2.0**-self._sampler.halvings)

    def submitted(self, seq: int, ids: Ids, interval: int) -> None:
        """Minibatch ``seq`` will ask for ``ids``; an interval has so many minibatches."""
        with self._lock:
            self._pending.append(_Access(seq, self._sample(ids, interval)))

    def read(self, ids: Ids, interval: int) -> None:
        """Rows that no minibatch announced were read."""
        with self._lock:
            sampled = self._sample(ids, interval)
            later = []
            while self._pending and (self._pending[-1].seq or 0) > self._taken:
                later.append(self._pending.pop())
            self._pending.append(_Access(None, sampled))
            self._pending.extend(reversed(later))

    def taken(self, seq: int) -> None:
        """The trainer has the rows of minibatch ``seq``."""
        self._taken = seq

    def dropped(self, executed: int) -> None:
        """Every minibatch that was not taken is forgotten; ``executed`` ones remain, as the core counts."""
        with self._lock:
            kept = [access for access in self._pending if access.seq is None or access.seq <= self._taken]
            self._stored = sum(len(access.ids) for access in kept)
            self._pending = deque(kept)
            self._cut = min(self._cut, executed)

    def end_interval(
        self,
        number: int,
        *,
        executed: int,
        capacity_rows: int,
        rows_requested: int,
        rows_moved: int,
        seconds: float,
    ) -> Gap | None:
        """The newest figure there is: of this interval, where it is there within 0.5% of its ``seconds``.

        ``executed``: minibatches that the core executed since the start; rows: remote ones of this interval.
        None: there is no figure yet.
        """
        accesses: list[Ids] = []
        with self._lock:
            while self._pending and (self._pending[0].seq is None or self._cut < executed):
                access = self._pending.popleft()
                self._cut += access.seq is not None
                accesses.append(access.ids)
                self._stored -= len(access.ids)
            halvings = self._sampler.halvings
        self._worker.put(_Interval(number, capacity_rows, rows_requested, rows_moved, halvings, accesses))
        self.settle(number, _PATIENCE * seconds)
        return self.latest()

    def whole(self) -> Gap | None:
        """All intervals measured so far together."""
        return self._worker.whole

    def latest(self) -> Gap | None:
        """The newest figure of one interval."""
        return self._worker.latest

    def settle(self, number: int, seconds: float) -> None:
        """Wait for the figure of interval ``number``, at most so long."""
        self._worker.wait(number, seconds)

    def finish(self, number: int) -> None:
        """Wait for the figure of the last interval (a bounded time) and end the thread. Idempotent."""
        self.settle(number, _LAST_WAIT)
        self._worker.close()

    def _sample(self, ids: Ids, interval: int) -> Ids:
        sampled = self._sampler.sample(ids)
        if self._mean is None:
            self._mean = float(len(sampled))
        self._mean += (len(sampled) - self._mean) * _SMOOTHING
        while self._mean * interval > SAMPLE:
            self._mean /= 2
            self._sampler.halvings += 1
            sampled = self._sampler.among(sampled)
        self._stored += len(sampled)
        while self._stored > STORED:
            self._sampler.halvings += 1
            sampled = self._sampler.among(sampled)
            self._pending = deque(_Access(seq, self._sampler.among(kept)) for seq, kept in self._pending)
            self._stored = len(sampled) + sum(len(access.ids) for access in self._pending)
        return sampled


class _Worker:
    """Computes one interval after the other. Thread-safe; an error costs the figure, not the training."""

    def __init__(self) -> None:
        """The thread starts with the first interval."""
        self.latest: Gap | None = None
        self.whole: Gap | None = None
        self._history = History()
        self._class_rows = np.zeros(CLASSES)
        self._queue: deque[_Interval] = deque()
        self._changed = threading.Condition()
        self._done = -1
        self._over = False
        self._thread: threading.Thread | None = None

    def put(self, interval: _Interval) -> None:
        """Compute this one too."""
        with self._changed:
            if self._over:
                return
            self._queue.append(interval)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="rudder-gap", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def wait(self, number: int, seconds: float) -> None:
        """Until interval ``number`` is computed, or as long."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._done >= number, seconds)

    def close(self) -> None:
        """End the thread, after the interval that it computes, which is waited for a bounded time.

        The interpreter must not end while it computes: a thread that comes back from C++ after that ends
        the process.
        """
        self._end()
        if self._thread is not None:
            self._thread.join(_LAST_WAIT)

    def _end(self) -> None:
        with self._changed:
            self._over = True
            self._queue.clear()
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._queue or self._over)
                    if self._over:
                        return
                    interval = self._queue.popleft()
                self._measure(interval)
                with self._changed:
                    self._done = interval.number
                    self._changed.notify_all()
        except Exception:
            _log.exception("the distance to MIN is no longer measured")
            self._end()

    def _measure(self, interval: _Interval) -> None:
        self._history.lower(interval.halvings)
        unseen = 1 - 2.0**-self._history.halvings  # before extend(), which may lower the rate of the next
        rows, classes = self._history.extend(
            interval.accesses, interval.capacity_rows, interval.rows_requested
        )
        self._class_rows += rows if classes is None else classes
        earlier = self.whole or Gap(-1, 0, 0.0, 0.0)
        moved = interval.rows_moved
        error = _standard_error(classes, unseen)
        self.latest = Gap(interval.number, moved, rows, error)
        self.whole = Gap(
            interval.number,
            earlier.rows_moved + moved,
            earlier.min_rows + rows,
            _standard_error(self._class_rows, unseen) if unseen else 0.0,
        )


def _standard_error(classes: NDArray[np.float64] | None, unseen: float) -> float:
    """Of the mean of the classes, where a share ``unseen`` of the ids is not in the sample."""
    if classes is None:
        return 0.0
    return float(np.std(classes, ddof=1) / np.sqrt(len(classes)) * np.sqrt(unseen))
