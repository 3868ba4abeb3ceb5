"""A spatial sample of accesses, and what Belady's MIN moves of it in an interval; see `rudder.gap`."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from rudder.source import Ids

#: Sampled accesses of an interval: the rate is halved above. With so many MIN errs by 1-3%, with a quarter of
#: them by up to 10% where few rows take most accesses; twice as many cost twice the time.
SAMPLE = 32768
#: Sampled accesses kept in memory, 8 bytes each: pending ones and history each. The rate is halved above.
STORED = 1 << 19
#: Buffers of distinct rows that are kept access by access before an interval, so that MIN forgets where it
#: began: with 2 an interval's figure errs by up to 10%, with 4 mostly by less than 1%.
WARM_UP = 4
#: Classes for the standard error, a power of two. More have too small buffers, fewer know their spread badly.
CLASSES = 8
# Multiply-shift: the top bits of id x an odd constant (2^64 / golden ratio) are close to uniform.
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
# Ids hashed at once: 128 KiB of scratch stay in a core's own cache.
_CHUNK = 16384


class Sampler:
    """Chooses the ids of the sample. ``halvings``: the rate is 2 ** -halvings. Not thread-safe."""

    def __init__(self, first_local: int = 0, end_local: int = 0) -> None:
        """Ids in [first_local, end_local) are local: they never belong to the sample."""
        self.halvings = 0
        self._first, self._end = first_local, end_local
        self._scratch = np.empty(_CHUNK, dtype=np.uint64)

    def sample(self, ids: Ids) -> Ids:
        """The sampled ids among ``ids`` (int64 [n], C-contiguous, >= 0), as a new array."""
        chosen = self.among(ids)
        return chosen[(chosen < self._first) | (chosen >= self._end)]

    def among(self, ids: Ids) -> Ids:
        """The same of ids known to be remote."""
        if self.halvings == 0 or len(ids) == 0:
            return ids
        threshold = np.uint64(1 << (64 - self.halvings))
        hashed = ids.view(np.uint64)
        found = []
        for start in range(0, len(ids), _CHUNK):
            part = hashed[start : start + _CHUNK]
            mixed = np.multiply(part, _MULTIPLIER, out=self._scratch[: len(part)])
            found.append(ids[start : start + _CHUNK][mixed < threshold])
        return found[0] if len(found) == 1 else np.concatenate(found)


class History:
    """Sampled accesses so far, as much of them as MIN of the next interval depends on. Not thread-safe."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._sampler = Sampler()
        #: Rows used before `_recent`, each once.
        self._before: Ids = np.empty(0, dtype=np.int64)
        self._recent: deque[Ids] = deque()

    @property
    def halvings(self) -> int:
        """The rate is 2 ** -halvings."""
        return self._sampler.halvings

    def lower(self, halvings: int) -> None:
        """Lower the rate, unless it is as low already."""
        if halvings > self.halvings:
            self._sampler.halvings = halvings
            self._before = self._sampler.among(self._before)
            self._recent = deque(self._sampler.among(ids) for ids in self._recent)

    def extend(
        self, accesses: list[Ids], capacity_rows: int, rows_requested: int
    ) -> tuple[float, NDArray[np.float64] | None]:
        """Append an interval's accesses (one array a minibatch, of this rate or a higher one).

        ``rows_requested``: of all ids, not of the sample alone. Where the sample has fewer a minibatch than
        its share, it mostly lacks rows that every minibatch uses, and MIN always keeps: so many places fewer.

        Returns the rows that MIN moves in it, and the same as each class of the sample has it (float64
        [classes]; None at rate 1, where there is nothing to estimate).
        """
        accesses = [np.unique(self._sampler.among(ids)) for ids in accesses]
        chunks = [self._before, *self._recent, *accesses]
        first = len(chunks) - len(accesses)
        ids, offsets = np.concatenate(chunks), _offsets(chunks)

        def min_of(ids: Ids, offsets: Ids, halvings: int) -> float:
            scale = 1 << halvings
            missing = (rows_requested / scale - (offsets[-1] - offsets[first])) / max(len(accesses), 1)
            places = max(0, round(capacity_rows / scale - (missing if halvings else 0)))
            return float(_min_since(ids, offsets, first, places) * scale)

        rows = min_of(ids, offsets, self.halvings)
        classes = None
        if self.halvings:
            names = _class_of(ids)
            classes = np.empty(CLASSES)
            for name in range(CLASSES):
                inside = names == name
                within = np.concatenate(([0], np.cumsum(inside)))[offsets]
                classes[name] = min_of(ids[inside], within, self.halvings + CLASSES.bit_length() - 1)
        self._recent.extend(accesses)
        self._forget(capacity_rows >> self.halvings)
        return rows, classes

    def _forget(self, capacity: int) -> None:
        """Keep the older half of the accesses as rows only, where the newer one is enough (or the limit)."""
        while True:
            stored = sum(map(len, self._recent))
            newer: list[Ids] = []
            kept = 0
            while self._recent and kept < stored // 2:
                newer.append(self._recent.pop())
                kept += len(newer[-1])
            newer.reverse()
            if not newer or not self._recent or not self._enough(newer, stored, capacity):
                self._recent.extend(newer)
                break
            self._before = np.unique(np.concatenate((self._before, *self._recent)))
            self._recent = deque(newer)
        if len(self._before) > STORED:
            self.lower(self.halvings + 1)

    def _enough(self, newer: list[Ids], stored: int, capacity: int) -> bool:
        from rudder._core import compulsory

        if stored > STORED:
            return True
        if stored // 2 < max(SAMPLE, WARM_UP * capacity):
            return False
        ids = np.concatenate(newer)
        return compulsory(ids, _offsets(newer)) >= WARM_UP * capacity


def _offsets(chunks: list[Ids]) -> Ids:
    return np.concatenate(([0], np.cumsum([len(chunk) for chunk in chunks]))).astype(np.int64)


def _min_since(ids: Ids, offsets: Ids, first: int, capacity: int) -> int:
    """Rows that MIN moves in the minibatches from ``first`` on, given those before."""
    from rudder._core import offline_optimum

    offsets = offsets.astype(np.int64)
    before = offline_optimum(ids[: offsets[first]], offsets[: first + 1], capacity)
    return offline_optimum(ids, offsets, capacity) - before


def _class_of(ids: Ids) -> Ids:
    """Class of each id, from bits that the choice of the sample left random (murmur's finaliser)."""
    mixed = ids.view(np.uint64).copy()
    mixed ^= mixed >> np.uint64(33)
    mixed *= np.uint64(0xFF51AFD7ED558CCD)
    mixed ^= mixed >> np.uint64(33)
    mixed *= np.uint64(0xC4CEB9FE1A85EC53)
    return (mixed >> np.uint64(40)).astype(np.int64) % CLASSES
