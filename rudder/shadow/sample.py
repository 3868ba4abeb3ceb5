"""A spatial sample of the ids that a run asks for: compact numbers, and how often each was asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rudder.agent.space import HALF_LIVES
from rudder.gap_sample import Sampler
from rudder.source import Ids

# Weights grow with every minibatch, so that old counts need not be shrunk; far below float64's 1e308.
_LARGEST_WEIGHT = 1e100


class Numbers:
    """Sampled ids, numbered from 0 in the order in which they come. Not thread-safe.

    Memory: about 30 bytes an id, and 8 for each half-life.
    """

    def __init__(self, local: tuple[int, int] = (0, 0)) -> None:
        """Ids in [local[0], local[1]) never belong to the sample."""
        from rudder._core import Numbering

        self.sampler = Sampler(*local)
        self._numbering = Numbering()

    def __len__(self) -> int:
        """Ids that have a number."""
        return len(self._numbering)

    @property
    def ids(self) -> Ids:
        """The id of each number, as a new array."""
        return self._numbering.ids

    def of(self, ids: Ids) -> tuple[Ids, int]:
        """The numbers of the sampled ones among ``ids``, each once, and how many of them are new."""
        before = len(self)
        numbers = self._numbering.of(self.sampler.sample(ids))
        return numbers, len(self) - before


class Counts:
    """How often each number was asked for, by half-life in minibatches (`rudder.agent.space.HALF_LIVES`)."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._counts = np.zeros((len(HALF_LIVES), 1024))
        self._weights = [1.0] * len(HALF_LIVES)

    def count(self, numbers: Ids, known: int) -> None:
        """One minibatch's numbers (each once), all below ``known``."""
        if known > self._counts.shape[1]:
            self._counts = np.pad(
                self._counts, ((0, 0), (0, max(known, 2 * self._counts.shape[1]) - self._counts.shape[1]))
            )
        for place, half_life in enumerate(HALF_LIVES):
            if half_life:
                self._weights[place] *= 2.0 ** (1.0 / half_life)
                if self._weights[place] > _LARGEST_WEIGHT:
                    self._counts[place] /= self._weights[place]
                    self._weights[place] = 1.0
            self._counts[place, numbers] += self._weights[place]

    def worth(self, half_life: int, known: int) -> NDArray[np.float32]:
        """Counts of the numbers below ``known``, of the nearest half-life; an access of now counts 1."""
        place = min(range(len(HALF_LIVES)), key=lambda each: abs(HALF_LIVES[each] - half_life))
        found: NDArray[np.float32] = (self._counts[place, :known] / self._weights[place]).astype(np.float32)
        return np.pad(found, (0, max(0, known - len(found))))

    def clone(self) -> Counts:
        """A copy."""
        other = Counts()
        other._counts, other._weights = self._counts.copy(), list(self._weights)
        return other
