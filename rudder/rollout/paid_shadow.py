"""The shadow of a simulated run, within a share of the run's time, as `rudder.shadowing` keeps a live one.

A simulation must not depend on how fast the machine is that runs it, so what the shadow takes is stated, not
measured: `ACCESS_SECONDS` for each plan and sampled access. docs/agent.md has the other differences.
"""

from __future__ import annotations

from collections.abc import Mapping

from rudder.metrics import IntervalMetrics
from rudder.plan import Plan
from rudder.shadow.shadow import Shadow

#: Of one core, for one sampled access under one plan: 0.11 to 0.12 microseconds where it was measured.
ACCESS_SECONDS = 1.2e-7


class PaidShadow:
    """A shadow that is asked only when it has saved up what asking takes. Not thread-safe."""

    def __init__(self, shadow: Shadow, share: float | None) -> None:
        """``share``: of the run's time. None: asked after every interval, and for nothing."""
        self._shadow, self._share = shadow, share
        self._budget = 0.0
        # Sampled accesses of the last interval, and of all that were not paid for, once for each run.
        self._accesses = self._pending = 0.0
        # Was the interval looked at before its end? None: nobody asked so far.
        self._tried: bool | None = None
        self._gained = 0.0
        #: Modelled seconds saved against the default plan since the last look, where the last interval was
        #: looked at; else None.
        self.gained: float | None = None
        #: Minibatches of the last interval.
        self.steps = 0
        #: Seconds of the trainer that it has taken.
        self.spent = 0.0

    @property
    def shadow(self) -> Shadow:
        """The shadow itself."""
        return self._shadow

    @property
    def live_ms(self) -> float | None:
        """Modelled milliseconds a step of the last interval, of the run."""
        return self._shadow.live_ms

    @property
    def default_ms(self) -> float | None:
        """The same, under the default plan from the beginning."""
        return self._shadow.default_ms

    @property
    def asleep(self) -> bool:
        """Does it not see what the run does?"""
        return self._shadow.resting

    def sleep(self) -> None:
        """Model nothing, for nothing, until the shadow is woken."""
        self._shadow.sleep()
        self._pending = 0.0

    def so_far(self, metrics: IntervalMetrics) -> bool:
        """The interval has come so far; True where other plans may be tried on that now."""
        afforded = self._share is None or self._budget + self._share * metrics.seconds_wall >= 0.0
        self._tried = afforded = afforded and not self.asleep
        if afforded:
            self._shadow.look(metrics)
            self._accesses = metrics.rows_requested * self._shadow.rate
        return afforded

    def end_interval(self, metrics: IntervalMetrics) -> bool:
        """Model an interval; True where other plans may be tried on it, since the time for it was saved."""
        tried, self._tried, self.gained = self._tried, None, None
        self._budget = min(0.0, self._budget + (self._share or 0.0) * metrics.seconds_wall)
        self.steps = metrics.minibatches
        if self.asleep:
            self._shadow.passed(metrics.minibatches)
            return False
        self._shadow.end_interval(metrics)
        self._accesses = metrics.rows_requested * self._shadow.rate
        # Besides the trials of other plans: one to find the link's speed, and the runs themselves.
        self._pending += self._accesses * (1 + self._shadow.runs)
        self._gained += ((self.default_ms or 0.0) - (self.live_ms or 0.0)) * self.steps / 1000
        affords = self._share is None or self._budget == 0.0
        if affords if tried is None else tried:
            self.gained, self._gained = self._gained, 0.0
        return affords

    def counterfactuals(self, plans: Mapping[str, Plan], *, slower: float = 1.0) -> dict[str, float]:
        """As `Shadow.counterfactuals`; intervals that nothing was asked of are paid for first."""
        found = self._shadow.counterfactuals(plans, slower=slower)
        if self._share is not None and found:
            runs = self._accesses * len(set(plans.values())) + self._pending
            self._pending = 0.0
            self.spent += runs * ACCESS_SECONDS
            self._budget -= runs * ACCESS_SECONDS
        return found
