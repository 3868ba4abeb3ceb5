"""The shadow beside a live table: fed as the run goes, asked at interval ends, within a share of the time.

Modelling an interval takes milliseconds on the trainer's thread. They are paid for out of a share of the
run's time (`Options.shadow_share`): until enough of it has come together, intervals pile up. All but the last
are then modelled as one, under the plans in force alone; other plans are tried on the last. No change of plan
lies within what is modelled as one. While the controller sleeps, so does the shadow (`LiveShadow.sleep`). An
error in here costs the shadow, not the training.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rudder.metrics import GROWING, IntervalMetrics
from rudder.options import Options
from rudder.plan import Plan
from rudder.prior import Priors
from rudder.shadow import Shadow
from rudder.shadow.trial import Memory
from rudder.source import FeatureSource, Ids

_log = logging.getLogger("rudder")
#: The loader's own bound on waiting blocks, until a loader says what its is.
_WAITING_BYTES = 1 << 30


class LiveShadow:
    """One table's. `submitted` and `dropped` on any thread, the rest on the trainer's."""

    def __init__(
        self, source: FeatureSource, options: Options, plan: Plan, capacity_rows: int, priors: Priors
    ) -> None:
        """``capacity_rows``: the whole memory, in rows."""
        starts, part = source.part_starts, source.local_part
        self._share = options.shadow_share
        self._priors = priors
        self._rows, self._row_bytes = capacity_rows, source.row_bytes
        self._waiting_bytes = _WAITING_BYTES
        self._budget = self._spent = 0.0
        #: Modelled milliseconds a step of the run, in the intervals modelled last, and of a run that had the
        #: default plan from the beginning. None: nothing is known.
        self.live_ms: float | None = None
        self.default_ms: float | None = None
        #: Steps of these intervals: all that were modelled since the last look at an interval's end.
        self.steps = 0
        self._looked = False
        #: Share of the rows requested in them that had not been requested before.
        self.fresh_share: float | None = None
        # Were other plans tried on this interval before its end? None: nobody asked so far.
        self._tried: bool | None = None
        # What is not modelled yet: the last interval, and those before it as one.
        self._older: IntervalMetrics | None = None
        self._last: IntervalMetrics | None = None
        self._shadow: Shadow | None = Shadow(
            plan,
            self._memory(),
            self._worth,
            local=(int(starts[part]), int(starts[part + 1])),
            policy=options.policy,
            settings=options.policy_settings,
        )

    @property
    def works(self) -> bool:
        """Has nothing gone wrong?"""
        return self._shadow is not None

    @property
    def asleep(self) -> bool:
        """Does it not see what the run does?"""
        return self._shadow is not None and self._shadow.resting

    def sleep(self) -> None:
        """Nobody is asked, and the run is as under the default plan: model nothing until `wake`. Between two
        intervals.
        """
        self.live_ms = self.default_ms = self.fresh_share = self._older = self._last = None
        self.steps, self._looked = 0, False
        if self._shadow is not None:
            self._shadow.sleep()

    def wake(self) -> None:
        """Model again, from the first interval on that is seen as a whole. Between two intervals."""
        if self._shadow is not None:
            self._shadow.wake()

    def measured(self, latency: float) -> None:
        """What a fetch takes beside its bytes, in seconds. Before the first minibatch."""
        if self._shadow is not None:
            self._shadow.latency = latency

    def submitted(self, ids: Ids, block_bytes: int, sampling_seconds: float) -> None:
        """A minibatch entered the window."""
        if self._shadow is not None:
            try:
                self._shadow.submitted(ids, float(block_bytes), sampling_seconds)
            except Exception:
                self._give_up()

    def dropped(self) -> None:
        """What was submitted and not taken is forgotten."""
        if self._shadow is not None:
            try:
                self._shadow.dropped()
            except Exception:
                self._give_up()

    def counterfactuals(self, plans: Mapping[str, Plan], *, slower: float = 1.0) -> dict[str, float]:
        """The same under other plans, from the run's state at their begin; {}: not known.

        ``slower``: had the link taken so many times as long for a row.
        """
        if self._shadow is None:
            return {}
        try:
            with self._paid():
                return self._shadow.counterfactuals(plans, slower=slower)
        except Exception:
            self._give_up()
            return {}

    def so_far(self, metrics: IntervalMetrics, waiting_bytes: int | None) -> bool:
        """The interval has come so far; True where plans can be tried on that now. Then its end is modelled,
        too; else it is not.

        ``waiting_bytes``: the loader's bound on blocks that wait.
        """
        self._bound(waiting_bytes)
        self._tried = False
        part = self._without_own(metrics)
        if (
            self._shadow is None
            or self.asleep
            or not self._affords(self._budget + self._share * part.seconds_wall)
        ):
            return False
        try:
            with self._paid():
                self._catch_up()
                self._shadow.look(part)
                self.fresh_share = self._shadow.fresh_share
        except Exception:
            self._give_up()
        self._tried = self.works
        return self._tried

    def end_interval(self, metrics: IntervalMetrics, waiting_bytes: int | None) -> bool:
        """An interval is over; True where it was modelled now.

        ``waiting_bytes``: the loader's bound on blocks that wait.
        """
        self._bound(waiting_bytes)
        tried, self._tried = self._tried, None
        metrics = self._without_own(metrics)
        self._spent = 0.0
        self._budget = min(0.0, self._budget + self._share * metrics.seconds_wall)
        if self._shadow is not None and self._shadow.resting:
            self._shadow.passed(metrics.minibatches)
            return False
        if self._last is not None:
            self._older = self._last if self._older is None else _together(self._older, self._last)
        self._last = metrics
        return (self._affords(self._budget) if tried is None else tried) and self.look()

    def look(self) -> bool:
        """Model what is not modelled yet; the time is saved later. False: nothing is known."""
        try:
            with self._paid():
                self._catch_up()
            self._looked = True
        except Exception:
            self._give_up()
        return self.live_ms is not None

    def applied(
        self, plan: Plan, worth: NDArray[np.float32] | None, seconds: float, *, renewed: bool
    ) -> None:
        """A plan came into force, that took so many seconds; ``renewed``: with a prior computed for it."""
        if self._shadow is None:
            return
        try:
            with self._paid():
                self._catch_up()
                self._shadow.applied(plan, worth, renewed=renewed, memory=self._memory(), seconds=seconds)
        except Exception:
            self._give_up()

    def _bound(self, waiting_bytes: int | None) -> None:
        if waiting_bytes is None or waiting_bytes == self._waiting_bytes:
            return
        self._waiting_bytes = waiting_bytes
        if self._shadow is not None:
            self._shadow.bound(self._memory())

    def _affords(self, budget: float) -> bool:
        return budget >= 0.0 or self._share == 1

    def _without_own(self, metrics: IntervalMetrics) -> IntervalMetrics:
        """What was spent in here since the last interval's end is no part of a step under any plan."""
        return replace(metrics, seconds_wall=max(0.0, metrics.seconds_wall - self._spent))

    @contextlib.contextmanager
    def _paid(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - began
            self._budget -= spent
            self._spent += spent

    def _catch_up(self) -> None:
        if self._last is None or self._shadow is None:
            return
        if self._looked:
            self.steps, self._looked = 0, False
        for pending in (self._older, self._last):
            if pending is not None:
                self._shadow.end_interval(pending)
                self._book(self._shadow.live_ms, self._shadow.default_ms, pending.minibatches)
        self._older = self._last = None
        self.fresh_share = self._shadow.fresh_share

    def _book(self, live_ms: float | None, default_ms: float | None, steps: int) -> None:
        """One more interval: means over the steps of all."""
        if live_ms is None or default_ms is None or not steps:
            return
        before, self.steps = self.steps, self.steps + steps
        self.live_ms = (before * (self.live_ms or 0.0) + steps * live_ms) / self.steps
        self.default_ms = (before * (self.default_ms or 0.0) + steps * default_ms) / self.steps

    def _memory(self) -> Memory:
        return Memory(self._rows, self._row_bytes, self._waiting_bytes)

    def _worth(self, name: str) -> NDArray[np.float32] | None:
        return self._priors.worth(name)

    def _give_up(self) -> None:
        _log.exception("what other plans would take is no longer modelled")
        self._shadow = self.live_ms = self.default_ms = None


def _together(one: IntervalMetrics, other: IntervalMetrics) -> IntervalMetrics:
    """Two intervals under the same plan as one."""
    sums = {name: getattr(one, name) + getattr(other, name) for name in (*GROWING, "minibatches")}
    return replace(other, **sums)
