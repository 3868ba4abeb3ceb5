"""Modelled time: when each minibatch is sampled, decided on, fetched and trained on, in seconds.

Four stages run beside one another. One thread samples, and stops while the window is full or the waiting
blocks take all of their memory. Minibatch t is decided on (which rows move) once it is sampled and the
trainer has begun minibatch t - depth; its rows then queue for one link, and are there a latency after the
last of them left. The trainer computes one minibatch after the other::

    decided(t) = max(begun(t - depth), decided(t - 1), sampled(t))
    sent(t)    = max(sent(t - 1), decided(t)) + rows(t) x seconds a row
    begun(t)   = max(ended(t - 1), sampled(t), sent(t) + latency)
    ended(t)   = begun(t) + compute(t)

A minibatch enters the window before t is decided on if it was sampled by then, so that how far the lookahead
reaches follows from the times, as it does live. With depth 0 the fetch starts when the trainer asks for it.

The model leaves out that stages share cores, that one peer may be slow, and the bound on staged bytes.
"""

from __future__ import annotations

from typing import Protocol

from rudder.shadow.feed import Feed

#: Minibatches that may wait, whatever the window's rows (as in `rudder.lookahead`).
MOST_WAITING = 256
# Times kept behind the minibatch that is next: the queue and the deepest pipeline reach no further back.
_KEPT = MOST_WAITING + 64
_NEVER = float("-inf")
_UNKNOWN = float("inf")


class Rows(Protocol):
    """Who says how many rows a minibatch moves."""

    def foresee(self, minibatch: int) -> None:
        """It entered the window."""
        ...

    def execute(self, minibatch: int) -> float:
        """Its turn has come: the rows that it moves."""
        ...


class Pipeline:
    """The stages' clocks; goes on from where it stands. Not thread-safe. Seconds, from 0."""

    def __init__(self, depth: int, window_rows: float, waiting_bytes: float, first: int = 0) -> None:
        """``window_rows``: sample ahead until so many requests wait; ``waiting_bytes``: bound on blocks.

        ``first``: the minibatch with which it begins.
        """
        self.depth, self.window_rows, self.waiting_bytes = depth, window_rows, waiting_bytes
        #: When the trainer ended its last minibatch.
        self.clock = 0.0
        #: The minibatch that is next, and how many were sampled.
        self.next = self.sampled = self._first = first
        #: Totals, in seconds.
        self.stalled_sampling = 0.0
        self.stalled_fetching = 0.0
        self.fetching = 0.0
        self._sampler = 0.0
        self._link = 0.0
        self._decided_last = 0.0
        self._arrived = 0.0
        self._steered, self._old_depth = 0.0, depth
        # Samples before this one started under the settings of before.
        self._begun_samples = 0
        self._sampled_at: dict[int, float] = {}
        self._popped: dict[int, float] = {}
        self._decided: dict[int, float] = {}
        self._begun: dict[int, float] = {}
        # First minibatches that may still wait in the queue, and in the window, for the next sample to start.
        self._queue_from = 0
        self._window_from = 0

    def clone(self) -> Pipeline:
        """The same state, which goes on alone."""
        other = Pipeline.__new__(Pipeline)
        other.__dict__.update(self.__dict__)
        for name in ("_sampled_at", "_popped", "_decided", "_begun"):
            setattr(other, name, dict(getattr(self, name)))
        return other

    def steer(self, feed: Feed, depth: int, window_rows: float, waiting_bytes: float) -> None:
        """New settings from now on, between two minibatches."""
        # Samples that the old settings let start before now are under way; the next one starts from now on.
        s = self._begun_samples = self.sampled
        while s < feed.end:
            start = max(self._sampler, self._room(feed, s, self.next))
            if start >= self.clock:
                break
            self._sampler = self._sampled_at[s] = start + feed.sampling[s - feed.first]
            s = self._begun_samples = s + 1
        self._sampler = max(self._sampler, self.clock)
        self._old_depth, self._steered = self.depth, self.clock
        self.depth, self.window_rows, self.waiting_bytes = depth, window_rows, waiting_bytes
        self._queue_from = self._window_from = max(feed.first, self.next - _KEPT)

    def pause(self, seconds: float) -> None:
        """The trainer does something else for so long."""
        self.clock += seconds

    def drop(self) -> None:
        """What was sampled ahead is forgotten."""
        self.sampled = self._begun_samples = self.next
        self._sampler = max(self._sampler, self.clock)

    def run(self, feed: Feed, rows: Rows, end: int) -> None:
        """Go on until minibatch ``end`` is next. REQUIRES that the feed has the minibatches before it."""
        at = feed.first
        for t in range(self.next, end):
            decided = self._sample(feed, rows, t)
            moved = rows.execute(t)
            self._decided[t] = self._decided_last = decided
            asked = max(self.clock, self._sampled_at[t])
            self.stalled_sampling += asked - self.clock
            begun = asked
            if moved > 0:
                self._link = max(self._link, decided) + moved * feed.row_seconds[t - at]
                arrived = self._link + feed.latency[t - at]
                self.fetching += max(0.0, arrived - max(decided, self._arrived))
                self._arrived = max(self._arrived, arrived)
                begun = max(asked, arrived)
            self.stalled_fetching += begun - asked
            self._popped[t], self._begun[t] = asked, begun
            self.clock = begun + feed.compute[t - at]
            self.next = t + 1
        self._forget()

    def _sample(self, feed: Feed, rows: Rows, t: int) -> float:
        """Sample what is ready before minibatch t is decided on; returns when it is."""
        decided = self._may_decide(t)
        if t < self.sampled:
            decided = max(decided, self._sampled_at[t])
        while self.sampled < feed.end:
            s = self.sampled
            if s < self._begun_samples:
                done = self._sampled_at[s]
            else:
                done = max(self._sampler, self._room(feed, s, t)) + feed.sampling[s - feed.first]
            if s > t and done > decided:
                break
            self._sampled_at[s] = done
            self._sampler = max(self._sampler, done)
            rows.foresee(s)
            self.sampled = s + 1
            if s == t:
                decided = max(decided, done)
        return decided

    def _may_decide(self, t: int) -> float:
        """When the depth lets minibatch t be decided on."""
        if self.depth == 0:
            return max(self.clock, self._decided_last)
        known = self._begun
        before = t - self._first  # so many minibatches
        old = known.get(t - self._old_depth, _NEVER if before < self._old_depth else _UNKNOWN)
        new = known.get(t - self.depth, _NEVER if before < self.depth else _UNKNOWN)
        # Under way already when the depth was changed?
        may = old if old <= self._steered else max(new, self._steered)
        return max(may, self._decided_last)

    def _room(self, feed: Feed, s: int, t: int) -> float:
        """When sampling minibatch s may start; unknown (infinite) where it waits for minibatch t."""
        at = feed.first
        block_bytes, requests = feed.bytes_until, feed.requests_until
        queue = max(self._queue_from, at)  # what the feed forgot waits no more
        while queue < s and (
            s - queue >= MOST_WAITING or block_bytes[s - at] - block_bytes[queue - at] >= self.waiting_bytes
        ):
            queue += 1
        self._queue_from = queue
        if queue > t:
            return _UNKNOWN
        window = max(self._window_from, at)
        while window < s and requests[s - at] - requests[window - at] >= self.window_rows:
            window += 1
        self._window_from = window
        by_rows = self._decided.get(window - 1, _NEVER) if window <= t else _UNKNOWN
        shallow = s - self.depth  # so many popped: the queue is no longer than the pipeline is deep
        by_depth = self._popped.get(shallow - 1, _NEVER) if shallow <= t else _UNKNOWN
        return max(self._popped.get(queue - 1, _NEVER), min(by_rows, by_depth))

    def _forget(self) -> None:
        if len(self._begun) < 2 * _KEPT:
            return
        for times in (self._sampled_at, self._popped, self._decided, self._begun):
            for minibatch in [each for each in times if each < self.next - _KEPT]:
                del times[minibatch]
