"""A minibatch whose rows were asked for ahead of time, and the ids by which the trainer will ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rudder.source import Bytes, Ids


class Minibatch:
    """The ids of one minibatch, in one part or several (edge features: one part per block).

    Not thread-safe; the prefetcher that made it guards it.
    """

    __slots__ = ("_staged", "parts", "seq")

    def __init__(self, seq: int, parts: Sequence[NDArray[Any]]) -> None:
        """``parts``: integer arrays; together, in order, they are what was submitted as minibatch ``seq``.

        They are kept, not copied: the caller must not change them.
        """
        self.seq = seq
        self.parts = parts
        self._staged: Bytes | None = None

    def find(self, ids: Ids) -> int | None:
        """Number of the part that has exactly these ids in this order, None where none has."""
        for number, part in enumerate(self.parts):
            if part.shape == ids.shape and np.array_equal(part, ids):
                return number
        return None

    def slice_of(self, number: int) -> slice:
        """Where a part's rows lie among the minibatch's."""
        start = sum(len(part) for part in self.parts[:number])
        return slice(start, start + len(self.parts[number]))

    @property
    def staged(self) -> Bytes | None:
        """All rows of a minibatch of several parts, once gathered."""
        return self._staged

    def stage(self, rows: Bytes | None) -> None:
        """Keep the gathered rows for the other parts; None: gather them anew."""
        self._staged = rows


def joined(parts: Sequence[NDArray[Any]]) -> Ids:
    """The ids of all parts, one after the other, as C-contiguous int64."""
    if len(parts) == 1:
        return np.ascontiguousarray(parts[0], dtype=np.int64)
    if not parts:
        return np.empty(0, dtype=np.int64)
    return np.concatenate([np.asarray(part, dtype=np.int64) for part in parts])
