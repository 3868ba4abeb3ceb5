"""A loader that samples ahead: yields what the wrapped one yields, in the same order."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from rudder import lifetime
from rudder.config import parse_bytes
from rudder.errors import ConfigError
from rudder.lookahead import Lookahead
from rudder.prefetcher import Prefetcher
from rudder.sampling import Item, Prepare


class Maker(Protocol):
    """Makes what the trainer gets of a minibatch that waited; used by the trainer's thread."""

    def finish(self, item: Item) -> Any:
        """The minibatch for the trainer, which begins it now."""
        ...

    def begin(self, item: Item | None) -> None:
        """Begin with the one after it, as far as that takes no waiting (None: it is not here yet)."""
        ...


class _AsItWaited:
    """The minibatch in the form in which it waited."""

    def finish(self, item: Item) -> Any:
        assert item.prepared is not None
        return item.prepared.packed

    def begin(self, item: Item | None) -> None:
        pass


class PrefetchLoader:
    """Wraps an iterable of minibatches that starts anew at each ``iter()``.

    Each ``iter()`` begins an epoch. What the loader raises is raised at the same minibatch in the trainer's
    loop, with its traceback. Leaving an epoch early drops the rest of it. Attributes that it lacks are the
    wrapped loader's.
    """

    def __init__(
        self,
        loader: Iterable[Any],
        tables: Sequence[Prefetcher],
        prepare: Prepare,
        *,
        maker: Maker | None = None,
        waiting_bytes: int | str = "1GiB",
        epochs: int | None = None,
        abandon: Callable[[Any], None] | None = None,
        length: Callable[[Any], int] = len,
    ) -> None:
        """``waiting_bytes`` bounds the minibatches that wait (one always may, whatever its size).

        ``epochs``: do not sample ahead into more epochs than these. ``abandon`` is called, on the sampling
        thread, with an iterator of the loader that will not be run to its end.
        """
        if epochs is not None and epochs < 1:
            raise ConfigError(f"epochs={epochs}: it must be 1 or more, or None where it is not known")
        self._loader = loader
        self._maker = maker if maker is not None else _AsItWaited()
        self._length = length
        self._lookahead = Lookahead(
            loader,
            list(tables),
            prepare,
            waiting_bytes=parse_bytes(waiting_bytes),
            epochs=epochs,
            abandon=abandon,
        )
        # The thread keeps the lookahead alive, not this object: a loader that nobody holds any more stops.
        # At exit its thread is waited for, which may still be on its way out of the core.
        weakref.finalize(self, self._lookahead.stop).atexit = False
        lifetime.register_loader(self._lookahead)

    def __iter__(self) -> Iterator[Any]:
        """Begin the next epoch."""
        return _Epoch(self, self._lookahead, self._maker)

    def __len__(self) -> int:
        """Minibatches of an epoch, as the wrapped loader says."""
        return self._length(self._loader)

    def __getattr__(self, name: str) -> Any:
        """Attributes of the wrapped loader."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._loader, name)

    def close(self) -> None:
        """Stop sampling ahead. Idempotent; a loop that is under way gets ClosedError."""
        self._lookahead.close()

    def __enter__(self) -> PrefetchLoader:
        """Use as a context: closed at its end."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close."""
        self.close()


class _Epoch:
    """One pass over the loader. Holds the loader, which a for loop alone would not."""

    def __init__(self, loader: PrefetchLoader, lookahead: Lookahead, maker: Maker) -> None:
        self._loader, self._lookahead, self._maker = loader, lookahead, maker
        self._number = lookahead.begin()

    def __iter__(self) -> _Epoch:
        return self

    def __next__(self) -> Any:
        made = self._maker.finish(self._lookahead.next(self._number))
        self._maker.begin(self._lookahead.peek(self._number))
        return made

    def __del__(self) -> None:
        number = getattr(self, "_number", None)
        if number is not None:
            self._lookahead.leave(number)
