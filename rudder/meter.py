"""One tensor's meter: running totals, cut into intervals that are written and handed to callbacks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from rudder.gap import GapMeter
from rudder.metrics import GROWING, Gap, IntervalMetrics, difference
from rudder.plan import Plan
from rudder.run_folder import DECISIONS, RunFolder

_log = logging.getLogger("rudder")

#: Takes each interval's metrics, on the trainer's thread; an exception in it is logged once and otherwise
#: ignored.
MetricsCallback = Callable[[IntervalMetrics], None]


class Meter:
    """Accumulates seconds and counts. Thread-safe, but intervals are ended by one thread (the trainer's)."""

    def __init__(
        self,
        counters: Callable[[], Mapping[str, int | float]],
        *,
        tensor: str,
        rank: int,
        row_bytes: int,
        folder: RunFolder | None = None,
        callback: MetricsCallback | None = None,
        gap: GapMeter | None = None,
    ) -> None:
        """``counters`` gives the core's running totals; ``gap`` measures the distance to MIN."""
        self._counters = counters
        self._tensor, self._rank, self._row_bytes = tensor, rank, row_bytes
        self._folder, self._callback = folder, callback
        self._gap = gap
        self._lock = threading.Lock()
        self._own: dict[str, float] = {}
        self._began: float | None = None
        self._intervals = 0
        #: Minibatches that began in this interval.
        self.minibatches = 0
        self._minibatches_total = 0
        self._earlier: dict[str, int | float] = {}
        self._folder_works = folder is not None

    def add(self, **amounts: float) -> None:
        """Add to running totals, by their names in `rudder.metrics`."""
        with self._lock:
            for name, amount in amounts.items():
                self._own[name] = self._own.get(name, 0) + amount

    def put(self, **values: float) -> None:
        """Set values that hold at one moment, by their names in `rudder.metrics`."""
        with self._lock:
            self._own.update(values)

    def decided(self, values: dict[str, Any]) -> None:
        """Write a line about a decision."""
        self._on_disk(lambda folder: folder.append(self._tensor, "decision", values, file=DECISIONS))

    def begin_minibatch(self) -> None:
        """The trainer begins a minibatch."""
        if self._began is None:
            self._began = time.perf_counter()
        self.minibatches += 1
        self._minibatches_total += 1

    def snapshot(self) -> dict[str, int | float]:
        """All running totals and gauges of now."""
        values = dict(self._counters())
        with self._lock:
            values.update(self._own)
            values["seconds_wall"] = time.perf_counter() - self._began if self._began is not None else 0.0
        return values

    def start(self, settings: dict[str, Any], plan: Plan) -> None:
        """Write the first line: what the tensor was attached with."""
        self._write("start", {"tensor": self._tensor, "rank": self._rank, **settings})
        self._summarise("running", plan, self.snapshot())

    def so_far(self, plan: Plan, refused: int) -> IntervalMetrics:
        """What the interval has been until now; it goes on."""
        now = {**self.snapshot(), "refused_decisions": refused}
        return self._since(self._earlier, now, plan, self._intervals, self.minibatches, None)

    def end_interval(self, plan: Plan, refused: int) -> IntervalMetrics:
        """Cut the interval here; the minibatch that begins next belongs to the next one."""
        now = {**self.snapshot(), "refused_decisions": refused}
        gap = self._measure_gap(now)
        metrics = self._since(self._earlier, now, plan, self._intervals, self.minibatches, gap)
        self._earlier = now
        self._intervals += 1
        self.minibatches = 0
        self._write("interval", metrics.to_json())
        self._summarise("running", plan, now)
        if self._callback is not None:
            try:
                self._callback(metrics)
            except Exception:
                _log.exception("the metrics callback of %s failed; it is not called again", self._tensor)
                self._callback = None
        return metrics

    def total(self, plan: Plan, refused: int) -> IntervalMetrics:
        """Metrics of the whole run so far, as one interval."""
        now = {**self.snapshot(), "refused_decisions": refused}
        return self._whole(now, plan, 0)

    def finish(self, plan: Plan, refused: int, *, failed: bool) -> IntervalMetrics | None:
        """Write the last, partial interval, which is returned where there is one, and the totals.

        Call while the core still answers.
        """
        last = None
        if self.minibatches or not self._intervals:
            last = self.end_interval(plan, refused)
        if self._gap is not None:
            self._gap.finish(self._intervals - 1)
        now = {**self.snapshot(), "refused_decisions": refused}
        self._write("end", self._whole(now, plan, self._intervals).to_json())
        self._summarise("failed" if failed else "finished", plan, now)
        return last

    def _measure_gap(self, now: Mapping[str, int | float]) -> Gap | None:
        if self._gap is None:
            return None
        past = {name: now.get(name, 0) - self._earlier.get(name, 0) for name in GROWING}
        return self._gap.end_interval(
            self._intervals,
            executed=int(now["minibatches"]),
            capacity_rows=int(now["capacity_rows"]),
            rows_requested=int(past["rows_requested"]),
            rows_moved=int(past["rows_moved"]),
            seconds=past["seconds_wall"],
        )

    def _whole(self, now: Mapping[str, int | float], plan: Plan, intervals: int) -> IntervalMetrics:
        gap = self._gap.whole() if self._gap is not None else None
        return self._since({}, now, plan, intervals, self._minibatches_total, gap)

    def _since(
        self,
        earlier: Mapping[str, int | float],
        later: Mapping[str, int | float],
        plan: Plan,
        interval: int,
        minibatches: int,
        gap: Gap | None,
    ) -> IntervalMetrics:
        return difference(
            earlier,
            later,
            tensor=self._tensor,
            rank=self._rank,
            interval=interval,
            minibatches=minibatches,
            plan=plan,
            row_bytes=self._row_bytes,
            gap=gap,
        )

    def _summarise(self, state: str, plan: Plan, now: Mapping[str, int | float]) -> None:
        whole = self._whole(now, plan, self._intervals).to_json()
        self._on_disk(lambda folder: folder.summarise(self._tensor, state, whole))

    def _write(self, kind: str, values: dict[str, Any]) -> None:
        self._on_disk(lambda folder: folder.append(self._tensor, kind, values))

    def _on_disk(self, act: Callable[[RunFolder], None]) -> None:
        """A full disk costs the metrics, not the training."""
        if self._folder is None or not self._folder_works:
            return
        try:
            act(self._folder)
        except OSError as error:
            self._folder_works = False
            _log.warning("metrics are no longer written to %s: %s", self._folder.path, error)
