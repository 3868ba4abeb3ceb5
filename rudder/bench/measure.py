"""Rounds of measuring: every combination and every baseline takes its turn in each, so that what else the
machine does hits all alike. Each turn asks for other rows, and every byte is compared outside of the clock.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rudder.bench.plain import PlainGather
from rudder.source import Bytes, Ids

if TYPE_CHECKING:
    from rudder._core import TransportProbe

# Destinations of one turn: larger than any cache, small beside a machine's memory.
_OUT_BYTES = 128 << 20
# Enough requests for percentiles in one turn, even where they take microseconds.
_MOST_REQUESTS = 20_000


@dataclass
class Turn:
    """What one turn took: seconds in all, and nanoseconds of each request where they are known."""

    seconds: float
    latencies: NDArray[np.int64] | None = None


@dataclass
class Subject:
    """Something to measure, and what it showed."""

    #: Takes rows (int64 [requests, n]) and out (uint8 [requests * n, row_bytes]).
    run: Callable[[Ids, Bytes], Turn]
    #: At least so many requests a turn.
    least: int = 1
    #: Whether ``out`` holds the rows afterwards.
    delivers: bool = True
    #: Whether the CPU time of both sides counts.
    metered: bool = False
    #: Requests of a turn; from the first, unrecorded one.
    requests: int = 0
    rates: list[float] = field(default_factory=list)  # rows a second
    latencies: list[NDArray[np.int64]] = field(default_factory=list)
    cpu: float = 0.0
    rows: int = 0
    verified: bool = True

    @property
    def rate(self) -> float:
        """Rows a second, median over rounds."""
        return statistics.median(self.rates)

    def percentile(self, share: float) -> float:
        """Microseconds within which this percentage of requests was done."""
        return float(np.percentile(np.concatenate(self.latencies), share, method="higher")) / 1e3


class Rounds:
    """Measures subjects beside each other with requests of one shape."""

    def __init__(
        self,
        plain: PlainGather,
        *,
        table_rows: int,
        row_bytes: int,
        rows: int,
        peers: int,
        most_in_flight: int,
        rng: np.random.Generator,
        peers_cpu: Callable[[], float],
    ) -> None:
        """``rows`` of each request, from the first ``peers`` tables."""
        self._plain, self._table_rows, self._rows, self._peers = plain, table_rows, rows, peers
        self._rng, self._peers_cpu = rng, peers_cpu
        fitting = max(1, _OUT_BYTES // (rows * row_bytes))
        self._capacity = min(_MOST_REQUESTS, max(fitting, 2 * most_in_flight))
        self.out: Bytes = np.empty((self._capacity * rows, row_bytes), dtype=np.uint8)
        self.out[:] = 0  # the first touch of a page is not what is measured

    def draw(self, requests: int) -> Ids:
        """Random rows for so many requests."""
        return self._rng.integers(0, self._table_rows, size=(requests, self._rows), dtype=np.int64)

    def run(self, subjects: list[Subject], seconds: float, repeats: int) -> None:
        """Give each its turns: ``repeats``, of ``seconds`` in all. The first one more is not recorded."""
        for subject in subjects:
            subject.requests = min(max(2, subject.least), self._capacity)
            warm = self._turn(subject)
            wanted = seconds / repeats / max(warm / subject.requests, 1e-7)
            subject.requests = int(min(max(wanted, 2 * subject.least), self._capacity))
            subject.rates.clear()
            subject.latencies.clear()
            subject.cpu, subject.rows = 0.0, 0
        for number in range(repeats):
            # Back and forth: nobody always follows the same one.
            for subject in subjects if number % 2 == 0 else reversed(subjects):
                self._turn(subject)

    def _turn(self, subject: Subject) -> float:
        rows = self.draw(subject.requests)
        out = self.out[: rows.size]
        before = self._cpu() if subject.metered else 0.0
        turn = subject.run(rows, out)
        if subject.metered:
            subject.cpu += self._cpu() - before
        subject.rows += rows.size
        subject.rates.append(rows.size / turn.seconds)
        if turn.latencies is not None:
            subject.latencies.append(turn.latencies)
        if subject.delivers and subject.verified:
            subject.verified = self._plain.same(rows, out, self._peers)
        return turn.seconds

    def _cpu(self) -> float:
        return time.process_time() + self._peers_cpu()


def by_probe(probe: TransportProbe, in_flight: int) -> Subject:
    """A transport, with so many requests in flight."""

    def run(rows: Ids, out: Bytes) -> Turn:
        return Turn(*probe.run(rows, out, in_flight))

    return Subject(run, least=in_flight, metered=True)
