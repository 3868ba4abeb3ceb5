"""What minibatches ask for and cost: the input of modelled time, minibatch by minibatch."""

from __future__ import annotations

from collections.abc import Iterable

from rudder.source import Ids


class Feed:
    """Minibatches [first, end), appended as they are sampled and forgotten from the front. Not thread-safe.

    Lists are by minibatch - first: ``ids`` (distinct remote rows, int64), ``sampling``, ``compute`` (all of
    the trainer's own time), ``latency``: seconds; ``row_seconds``: of one row on the link.
    ``requests_until``, ``bytes_until``: rows requested and bytes of blocks of all minibatches before.
    """

    def __init__(self) -> None:
        """Empty, from minibatch 0."""
        self.first = 0
        self.ids: list[Ids] = []
        self.sampling: list[float] = []
        self.compute: list[float] = []
        self.row_seconds: list[float] = []
        self.latency: list[float] = []
        self.requests_until: list[float] = [0.0]
        self.bytes_until: list[float] = [0.0]

    @property
    def end(self) -> int:
        """The minibatch after the last."""
        return self.first + len(self.bytes_until) - 1

    def append(
        self,
        ids: Ids,
        *,
        requests: float,
        sampling: float,
        block_bytes: float,
        compute: float = 0.0,
        row_seconds: float = 0.0,
        latency: float = 0.0,
    ) -> None:
        """One more minibatch; ``requests``: its distinct remote rows, all of them."""
        self.ids.append(ids)
        self.sampling.append(sampling)
        self.compute.append(compute)
        self.row_seconds.append(row_seconds)
        self.latency.append(latency)
        self.requests_until.append(self.requests_until[-1] + requests)
        self.bytes_until.append(self.bytes_until[-1] + block_bytes)

    def pass_by(self) -> None:
        """One more minibatch, of which nothing is kept. REQUIRES that nothing is kept of any."""
        self.first += 1

    def cost(self, minibatches: Iterable[int], compute: float, row_seconds: float, latency: float) -> None:
        """Set what was measured of these minibatches."""
        for minibatch in minibatches:
            at = minibatch - self.first
            self.compute[at], self.row_seconds[at], self.latency[at] = compute, row_seconds, latency

    def forget(self, before: int) -> None:
        """Drop the minibatches before this one."""
        count = min(max(0, before - self.first), len(self.ids))
        for values in (self.ids, self.sampling, self.compute, self.row_seconds, self.latency):
            del values[:count]
        del self.requests_until[:count], self.bytes_until[:count]
        self.first += count

    def truncate(self, end: int) -> None:
        """Drop the minibatches from this one on; it is the next to be appended."""
        keep = max(0, end - self.first)
        self.first = min(self.first, end)
        for values in (self.ids, self.sampling, self.compute, self.row_seconds, self.latency):
            del values[keep:]
        del self.requests_until[keep + 1 :], self.bytes_until[keep + 1 :]
