"""A link's speed, from what an interval measured: that at which the model fetches for as long as the run."""

from __future__ import annotations

from collections.abc import Sequence

from rudder.shadow.feed import Feed
from rudder.shadow.pipeline import Pipeline

_ROUNDS = 14
_WIDEST = 1e4  # the first guess may be off by so much either way


class _Moved:
    """Rows that are known already."""

    def __init__(self, first: int, moved: Sequence[float]) -> None:
        self._first, self._moved = first, moved

    def foresee(self, minibatch: int) -> None:
        """Nothing depends on it here."""

    def execute(self, minibatch: int) -> float:
        return self._moved[minibatch - self._first]


def row_seconds(begin: Pipeline, feed: Feed, moved: Sequence[float], fetching: float, guess: float) -> float:
    """Seconds of a row on the link, so that fetches are under way for ``fetching`` seconds in all.

    ``moved``: rows of each minibatch from ``begin`` on, whose other costs are in the feed. ``guess``: > 0.
    """
    if sum(moved) <= 0 or fetching <= 0:
        return guess
    end = begin.next + len(moved)
    low, high = guess / _WIDEST, guess * _WIDEST
    for _ in range(_ROUNDS):
        middle = (low * high) ** 0.5
        for minibatch in range(begin.next, end):
            feed.row_seconds[minibatch - feed.first] = middle
        pipeline = begin.clone()
        before = pipeline.fetching
        pipeline.run(feed, _Moved(begin.next, moved), end)
        if pipeline.fetching - before < fetching:
            low = middle
        else:
            high = middle
    return float((low * high) ** 0.5)
