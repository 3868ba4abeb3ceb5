"""The sampling thread: runs a loader epoch after epoch, and makes of what it yields the form that waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from rudder.minibatch import Minibatch


@dataclass
class Prepared:
    """A minibatch in the form in which it waits."""

    packed: Any
    nbytes: int
    #: For each table, in the order of the tables, the parts of ids that the trainer will ask of it.
    ids: Sequence[Sequence[NDArray[Any]]]


#: Makes the waiting form of what the loader yielded; runs on the sampling thread.
Prepare = Callable[[Any], Prepared]


@dataclass
class Item:
    """A place in the queue: a minibatch that waits, what was raised in its place, or an epoch's end."""

    epoch: int
    prepared: Prepared | None = None
    seconds: float = 0.0
    error: BaseException | None = None
    submitted: list[Minibatch] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that it occupies."""
        return self.prepared.nbytes if self.prepared is not None else 0


class Sink(Protocol):
    """Where items go."""

    @property
    def closed(self) -> bool:
        """Nothing more is wanted, ever."""
        ...

    def wait_for_turn(self, epoch: int) -> bool:
        """Wait until another minibatch of the epoch is wanted; False where none ever will be."""
        ...

    def append(self, item: Item) -> bool:
        """Take an item; False where its epoch is of no use any more."""
        ...


def sample_epochs(
    loader: Iterable[Any], prepare: Prepare, sink: Sink, abandon: Callable[[Any], None] | None
) -> None:
    """Run until the sink is closed. ``abandon`` gets each iterator that will not be run to its end."""
    epoch = 0
    while not sink.closed:
        iterator = _sample_epoch(loader, prepare, sink, epoch)
        if iterator is not None and abandon is not None:
            abandon(iterator)
        epoch += 1


def _sample_epoch(loader: Iterable[Any], prepare: Prepare, sink: Sink, epoch: int) -> Iterator[Any] | None:
    """Sample an epoch; returns the loader's iterator if it was left before its end."""
    iterator: Iterator[Any] | None = None
    while True:
        item = Item(epoch)
        try:
            if not sink.wait_for_turn(epoch):
                return iterator
            began = time.perf_counter()
            if iterator is None:
                iterator = iter(loader)
            minibatch = next(iterator)
            item.seconds = time.perf_counter() - began
            item.prepared = prepare(minibatch)
            del minibatch
        except StopIteration:
            pass
        except BaseException as error:  # whatever it is, the training loop gets it
            item.error = error
        if not sink.append(item):
            return iterator
        if item.prepared is None:
            return None
