"""The prior that a run makes for itself: how often each row was asked for, older accesses counting less."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from rudder.source import Ids

# Far below float32's 3e38, so that a sum of many such weights stays finite.
_LARGEST_WEIGHT = 1e30


class FrequencyPrior:
    """Counts of accesses with a half-life in minibatches. Thread-safe; 4 bytes a row of the table."""

    def __init__(self, rows: int) -> None:
        """Every row starts at 0."""
        self._lock = threading.Lock()
        self._counts = np.zeros(rows, dtype=np.float32)
        self._weight = 1.0

    def count(self, ids: Ids, half_life: int) -> None:
        """Add one access to each of ``ids``; with ``half_life`` 0 old ones count fully for ever."""
        with self._lock:
            # Instead of shrinking every count, each new access weighs more than the last.
            if half_life:
                self._weight *= 2.0 ** (1.0 / half_life)
                if self._weight > _LARGEST_WEIGHT:
                    self._counts /= np.float32(self._weight)
                    self._weight = 1.0
            np.add.at(self._counts, ids, np.float32(self._weight))

    def worth(self) -> NDArray[np.float32]:
        """A copy of the counts, scaled so that an access of now counts 1."""
        with self._lock:
            scaled: NDArray[np.float32] = self._counts / np.float32(self._weight)
        return scaled
