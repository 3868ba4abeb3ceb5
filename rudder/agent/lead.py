"""When to ask for a plan that takes a while: so many minibatches before the boundary at which it is wanted.

An answer is worth something if it is there by the end of the very interval that it is about. So it is asked
for a little earlier, on what the interval has been so far: the lead is the time that answers take, in steps,
but never more than a quarter of the interval, since the question must be about most of it.
"""

from __future__ import annotations

import math
from collections import deque

#: The question is about at least three quarters of an interval. A model that needs more is too slow for it.
_MOST_SHARE = 4
# Answers whose slowest decides: one that waited for a core, or for another trainer's turn, comes again.
_REMEMBERED = 8
# An answer that was not there in time takes at least so many times what it was given.
_LATE = 2.0


def most_lead(interval: int) -> int:
    """Minibatches before the boundary at which an interval of so many is asked about, at the earliest."""
    return max(1, interval // _MOST_SHARE)


def lead(answer_ms: float, step_ms: float, interval: int) -> int:
    """Minibatches before the boundary at which to ask, for an answer that takes ``answer_ms``."""
    if step_ms <= 0:
        return most_lead(interval)
    return min(max(1, math.ceil(answer_ms / step_ms)), most_lead(interval))


def in_time(answer_ms: float, step_ms: float, interval: int) -> bool:
    """Can an answer that takes ``answer_ms`` be there by the boundary?"""
    return answer_ms <= step_ms * most_lead(interval)


def needed_interval(answer_ms: float, step_ms: float) -> int:
    """The least interval in which such an answer is in time; of any length, also above what plans allow."""
    return _MOST_SHARE * max(1, math.ceil(answer_ms / step_ms))


class AnswerTime:
    """What answers took lately. Not thread-safe."""

    def __init__(self) -> None:
        """Nothing is known: 0."""
        self._taken: deque[float] = deque(maxlen=_REMEMBERED)

    @property
    def milliseconds(self) -> float:
        """Of the slowest of the last answers, from asking to having."""
        return max(self._taken, default=0.0)

    def took(self, milliseconds: float) -> None:
        """An answer came."""
        self._taken.append(milliseconds)

    def missed(self, milliseconds: float) -> None:
        """None came within so long."""
        self._taken.append(_LATE * milliseconds)
