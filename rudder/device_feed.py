"""Double buffering: blocks and rows of a minibatch go to the GPU while the trainer works on the one before.

They are queued on a stream of Rudder's own, so they overlap with what the trainer queued; its stream waits
for them on the GPU when the minibatch is handed over. Nothing here waits for the GPU.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rudder.errors import RudderError
from rudder.minibatch import Minibatch
from rudder.sampling import Item, Prepared
from rudder.source import Ids

if TYPE_CHECKING:
    from rudder.gpu import Gpu
    from rudder.prefetcher import Prefetcher

# Minibatches whose rows lie ready on the device: the one handed over, and one more for scripts that draw one
# ahead.
_READY = 2


class ReadyRows:
    """Rows of a table that were gathered on the device before they were asked for. Thread-safe."""

    def __init__(self) -> None:
        """None yet."""
        self._lock = threading.Lock()
        self._ready: list[_Gathered] = []

    def add(self, gathered: _Gathered) -> None:
        """Rows that were handed over; the oldest that nobody asked for go."""
        with self._lock:
            self._ready = [*self._ready[1 - _READY :], gathered]

    def claim(self, ids: Ids, writes: int) -> Any | None:
        """The rows of exactly these ids, once; None where they are not here, or were written to since."""
        with self._lock:
            for gathered in reversed(self._ready):
                part = gathered.minibatch.find(ids)
                if part is None or part in gathered.claimed or gathered.writes != writes:
                    continue
                gathered.claimed.add(part)
                if len(gathered.claimed) == len(gathered.minibatch.parts):
                    self._ready.remove(gathered)
                return gathered.rows[gathered.minibatch.slice_of(part)]
        return None


class _Gathered:
    """The rows of a minibatch on the device."""

    def __init__(self, minibatch: Minibatch, rows: Any, writes: int) -> None:
        self.minibatch, self.rows, self.writes = minibatch, rows, writes
        self.claimed: set[int] = set()


@dataclass
class Made:
    """A minibatch as the trainer gets it."""

    value: Any
    #: All tensors in it that were made on the device.
    tensors: list[Any]


class DeviceFeed:
    """Makes minibatches on a GPU, one ahead; see `rudder.loader.Maker`."""

    def __init__(self, gpu: Gpu, tables: Sequence[Prefetcher], make: Callable[[Prepared], Made]) -> None:
        """``make`` puts a minibatch together on torch's present stream. ``tables``: in the order in which
        items name them; rows of those without a GPU are left alone.
        """
        self._gpu, self._tables, self._make = gpu, tables, make
        self._begun: tuple[Item, list[Minibatch], Made, list[_Gathered]] | None = None

    def begin(self, item: Item | None) -> None:
        """Queue the copies of the next minibatch, if its rows are here."""
        if item is None or item.submitted is None or item.prepared is None:
            return
        if self._begun is not None and self._begun[0] is item:
            return
        self._begun = None
        try:
            with self._gpu.streams.ahead():
                rows = self._gather(item.submitted, wait=False)
                if rows is not None:
                    self._begun = (item, item.submitted, self._make(item.prepared), rows)
        except RudderError:
            return  # it is that minibatch's own: `finish` tries again, and raises it

    def finish(self, item: Item) -> Any:
        """The minibatch, on the device for whatever the trainer queues from now on."""
        assert item.prepared is not None
        begun, self._begun = self._begun, None
        if begun is not None and begun[0] is item and begun[1] is item.submitted:
            made, rows = begun[2], begun[3]
        else:
            with self._gpu.streams.ahead():
                rows = self._gather(item.submitted, wait=True) or [] if item.submitted is not None else []
                made = self._make(item.prepared)
        self._gpu.streams.hand_over([*made.tensors, *(gathered.rows for gathered in rows)])
        for table, gathered in zip(self._on_device(), rows):
            table.ready_rows.add(gathered)
        return made.value

    def _gather(self, submitted: Sequence[Minibatch], *, wait: bool) -> list[_Gathered] | None:
        found = []
        for table, minibatch in zip(self._tables, submitted):
            if table.gpu is None:
                continue
            count = sum(len(part) for part in minibatch.parts)
            writes = table.writes
            rows = table.gpu.empty(count, table.source.row_shape, table.source.dtype)
            if not table.gather_ahead(minibatch, rows, wait=wait):
                return None
            found.append(_Gathered(minibatch, rows, writes))
        return found

    def _on_device(self) -> list[Prefetcher]:
        return [table for table in self._tables if table.gpu is not None]
