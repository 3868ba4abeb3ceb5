"""What evidence holds of the time before: kept from interval to interval, live and in a simulator alike."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace

from rudder.agent.evidence import REMEMBERED, Decision, Evidence, step_milliseconds
from rudder.agent.job import JobFacts
from rudder.agent.space import Space
from rudder.metrics import IntervalMetrics
from rudder.plan import Plan


class Remembered:
    """Makes the evidence of each interval. For each: `evidence`, `ended`, `decided`. Not thread-safe."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.rolled_back = 0
        #: What evidence says of the job.
        self.job = JobFacts()
        self._recent: deque[IntervalMetrics] = deque(maxlen=REMEMBERED)
        self._history: deque[Decision] = deque(maxlen=REMEMBERED)
        self._prior_age = 0

    @property
    def previous(self) -> IntervalMetrics | None:
        """The interval that ended last."""
        return self._recent[-1] if self._recent else None

    def evidence(
        self,
        metrics: IntervalMetrics,
        space: Space,
        *,
        counterfactuals: Mapping[str, float] | None = None,
        fresh_share: float | None = None,
    ) -> Evidence:
        """The evidence of the interval that ends now, or of what it has been so far."""
        return Evidence(
            metrics,
            space,
            counterfactuals=counterfactuals or {},
            recent=tuple(self._recent),
            history=tuple(self._history),
            fresh_share=fresh_share,
            prior_age=self._prior_age + 1,
            rolled_back=self.rolled_back,
            job=self.job,
        )

    def ended(self, metrics: IntervalMetrics) -> None:
        """The interval is over."""
        last = self._history[-1] if self._history else None
        if last is not None and last.milliseconds_after is None and last.after == metrics.plan:
            self._history[-1] = replace(last, milliseconds_after=step_milliseconds(metrics))
        self._recent.append(metrics)
        self._prior_age += 1

    def decided(self, plan: Plan, *, rebuilt: bool = False, rolled_back: bool = False) -> None:
        """``plan`` is in force from now on; ``rebuilt``: with a prior that was computed for it."""
        last = self.previous
        if last is not None and plan != last.plan:
            self._history.append(Decision(last.plan, step_milliseconds(last), plan))
        if rebuilt:
            self._prior_age = 0
        self.rolled_back += rolled_back
