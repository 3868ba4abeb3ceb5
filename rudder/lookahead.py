"""Sampling ahead: a background thread runs the loader, and the minibatches wait, compact, for the trainer.

**Invariants.** Minibatches are yielded in the order in which the loader produced them, each exactly once,
except that those of an epoch which the trainer left early are dropped. The thread runs on into the next
epoch only where the window has room; whatever it sampled there waits for that epoch. No lock is held while
the loader runs, so a loader that takes a lock of its own (DGL's RPC) cannot deadlock with a trainer that
does.

**Several loaders over one table.** A table's window holds the minibatches of one loader at a time, its
*feeder*. Another loader takes over when the feeder is between epochs, or when it yields twice running (an
evaluation in mid-epoch); its very first minibatch there is read without being announced. The one that lost
its place keeps its sampled minibatches and submits them again when its turn comes.

**Lock order**: `_FEEDERS` (who feeds which table), then `_submitting` (what is in the tables' windows),
then `_changed` (the queue). The sampling thread takes only the last two.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rudder.errors import ClosedError
from rudder.prefetcher import Prefetcher
from rudder.sampling import Item, Prepare, sample_epochs

_log = logging.getLogger("rudder")
_FEEDERS = threading.RLock()


# Minibatches that may wait while the window is not yet full of remote rows: then nearly all accesses are
# local, and more of them would only occupy memory.
MAX_MINIBATCHES = 256
# Minibatches that wait where every row is local, or no tensor was given: enough to hide an uneven sampler.
LOCAL_MINIBATCHES = 4
# Seconds that close() waits for a loader that does not return, e.g. one whose servers are gone.
JOIN_SECONDS = 10.0
# How long the sampling thread waits for room before it looks whether it is still wanted.
_GLANCE_SECONDS = 0.1


class Lookahead:
    """The queue of one loader and the thread that fills it. Internal to `PrefetchLoader`."""

    def __init__(
        self,
        loader: Iterable[Any],
        tables: Sequence[Prefetcher],
        prepare: Prepare,
        *,
        waiting_bytes: int,
        epochs: int | None,
        abandon: Callable[[Any], None] | None,
    ) -> None:
        """``abandon`` is called with an iterator of the loader that will not be run to its end."""
        self._loader, self._tables, self._prepare = loader, tables, prepare
        self._waiting_bytes, self._epochs, self._abandon = waiting_bytes, epochs, abandon
        # The table with the most bytes decides how far to sample: its window is the one that is worth
        # filling.
        self._lead = max(tables, key=lambda t: t.capacity_rows * t.source.row_bytes, default=None)
        self._submitting = threading.Lock()
        self._changed = threading.Condition()
        self._queue: deque[Item] = deque()
        self._bytes = 0
        self._epoch = -1  # the trainer's
        self._in_epoch = False
        self._abandoned = -1  # epochs up to this one are of no use any more
        self._feeding = False
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def waiting_bytes(self) -> int:
        """Bound on the sampled minibatches that wait, beside what the plan gives them."""
        return self._waiting_bytes

    # -- the trainer's side

    def begin(self) -> int:
        """Start the next epoch; what is left of the one before is dropped."""
        with self._submitting:
            with self._changed:
                if self._closed:
                    raise ClosedError("this loader is closed")
                self._abandoned = self._epoch
                self._epoch += 1
                self._in_epoch = True
                dropped = self._drop_abandoned()
                self._changed.notify_all()
            if dropped and self._feeding:
                self._withdraw()
                self._submit_waiting()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="rudder-sampling", daemon=True)
            self._thread.start()
        if not any(_busy(table.feeder, self) for table in self._tables):
            self._take_over()
        return self._epoch

    def leave(self, epoch: int) -> None:
        """The trainer's iterator over ``epoch`` is gone: the loader counts as between epochs."""
        with self._changed:
            if epoch == self._epoch:
                self._end_epoch()

    def peek(self, epoch: int) -> Item | None:
        """The minibatch that `next` would return now, which stays; None where it would wait or raise."""
        with self._changed:
            if self._closed or epoch != self._epoch or not self._in_epoch or not self._queue:
                return None
            item = self._queue[0]
            return item if item.prepared is not None and item.error is None else None

    def next(self, epoch: int) -> Item:
        """The next minibatch. Raises StopIteration at the epoch's end, or what the loader raised."""
        began = time.perf_counter()
        with self._changed:
            while self._alive(epoch) and not self._queue:
                self._changed.wait()
            if not self._alive(epoch):
                raise StopIteration
            item = self._queue[0]
        waited = time.perf_counter() - began
        if item.prepared is not None and not self._feeding and self._may_feed():
            self._take_over()
        with self._changed:
            if not self._alive(epoch):
                raise StopIteration
            self._queue.popleft()
            self._bytes -= item.nbytes
            if item.prepared is None or item.error is not None:
                self._end_epoch()
            self._changed.notify_all()
        if item.error is None and item.prepared is not None:
            for number, table in enumerate(self._tables):
                table.last_user = self
                table.announce(item.submitted[number] if item.submitted is not None else None, waited)
            return item
        for table in self._tables:
            table.finish_epoch()
        if item.error is not None:
            raise item.error
        raise StopIteration

    def _end_epoch(self) -> None:
        self._abandoned = self._epoch
        self._in_epoch = False
        self._changed.notify_all()

    def _alive(self, epoch: int) -> bool:
        if self._closed:
            raise ClosedError("this loader was closed while it was in use")
        return epoch == self._epoch and self._in_epoch

    def _may_feed(self) -> bool:
        """Is it this loader's turn? Yes if nobody is in mid-epoch, or if it yielded last already."""
        return not any(_busy(table.feeder, self) and table.last_user is not self for table in self._tables)

    def poke(self) -> None:
        """The window may have room again."""
        with self._changed:
            self._changed.notify_all()

    def stop(self) -> None:
        """Let the thread end; waits for nothing, so that the garbage collector may call it anywhere."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def close(self) -> None:
        """Stop the thread and forget what waits. Idempotent."""
        self.stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(JOIN_SECONDS)
            if self._thread.is_alive():
                _log.warning(
                    "the loader did not return within %.0f s; its thread is left behind", JOIN_SECONDS
                )
        self._retire()

    def _retire(self) -> None:
        with _FEEDERS:
            if self._feeding:
                self._give_up()
        with self._changed:
            self._queue.clear()
            self._bytes = 0

    # -- whose turn it is

    def _take_over(self) -> None:
        with _FEEDERS:
            for table in self._tables:
                if table.feeder is not None and table.feeder is not self:
                    table.feeder._give_up()
            with self._submitting:
                for table in self._tables:
                    table.feeder = self
                self._feeding = True
                self._submit_waiting()
        self.poke()

    def _give_up(self) -> None:
        with self._submitting:
            self._feeding = False
            self._withdraw()
            for table in self._tables:
                if table.feeder is self:
                    table.feeder = None

    def _withdraw(self) -> None:
        for table in self._tables:
            table.drop_pending()
        with self._changed:
            for item in self._queue:
                item.submitted = None

    def _submit_waiting(self) -> None:
        with self._changed:
            items = [item for item in self._queue if item.submitted is None]
        for item in items:
            self._submit(item)

    def _submit(self, item: Item) -> None:
        """Tell the tables a minibatch's ids; an id outside of a table is the minibatch's error."""
        if item.prepared is None or item.error is not None:
            return
        try:
            item.submitted = [
                table.submit(
                    *parts,
                    waiting_bytes=item.nbytes if table is self._lead else 0,
                    sampling_seconds=item.seconds,
                )
                for table, parts in zip(self._tables, item.prepared.ids)
            ]
        except Exception as error:
            item.error = error
        item.seconds = 0.0  # counted once, however often the minibatch is submitted

    # -- the sampling thread's side

    def _run(self) -> None:
        sample_epochs(self._loader, self._prepare, self, self._abandon)
        self._retire()

    @property
    def closed(self) -> bool:
        """Closed, or about to be."""
        return self._closed

    def append(self, item: Item) -> bool:
        """Queue an item; False where its epoch is of no use any more."""
        with self._submitting:
            with self._changed:
                if not self._useful(item.epoch):
                    return False
            if self._feeding:
                self._submit(item)
            with self._changed:
                self._queue.append(item)
                self._bytes += item.nbytes
                self._changed.notify_all()
        return True

    def wait_for_turn(self, epoch: int) -> bool:
        """Wait until another minibatch of ``epoch`` is wanted; False where it never will be."""
        while True:
            with self._changed:
                while self._useful(epoch) and not self._may_sample(epoch):
                    self._changed.wait()
                if not self._useful(epoch):
                    return False
                lead = self._lead
                if lead is None or lead.remote_rows == 0 or len(self._queue) <= lead.plan.depth:
                    return True
            if lead.wait_for_room(_GLANCE_SECONDS):
                return True

    def _useful(self, epoch: int) -> bool:
        return not self._closed and epoch > self._abandoned

    def _may_sample(self, epoch: int) -> bool:
        """Is another minibatch wanted, as far as this loader knows? The table's window has its own say."""
        if epoch > self._epoch and not self._may_run_into(epoch):
            return False
        waiting = len(self._queue)
        if waiting == 0:
            return True
        if self._lead is None or self._lead.remote_rows == 0:
            return waiting < LOCAL_MINIBATCHES and self._bytes < self._waiting_bytes
        bound = self._waiting_bytes + self._lead.waiting_share
        return self._feeding and waiting < MAX_MINIBATCHES and self._bytes < bound

    def _may_run_into(self, epoch: int) -> bool:
        """Sample for an epoch not begun yet: the very next one, while the present one goes on well."""
        promised = self._epochs is None or epoch < self._epochs
        faulty = bool(self._queue) and self._queue[-1].error is not None
        mine = self._feeding or not self._tables
        return promised and mine and self._in_epoch and not faulty and epoch == self._epoch + 1

    def _drop_abandoned(self) -> bool:
        dropped = False
        while self._queue and self._queue[0].epoch <= self._abandoned:
            self._bytes -= self._queue.popleft().nbytes
            dropped = True
        return dropped


def _busy(feeder: Lookahead | None, other_than: Lookahead) -> bool:
    """Is the table in the hands of another loader that is in the middle of an epoch?"""
    return feeder is not None and feeder is not other_than and feeder._in_epoch and not feeder._closed
