"""What evidence holds of the time before: kept from interval to interval, live and in a simulator alike."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from rudder.agent.evidence import REMEMBERED, Decision, Evidence, step_milliseconds
from rudder.agent.space import Space
from rudder.metrics import IntervalMetrics
from rudder.plan import Plan


class Memory:
    """Makes the evidence of each interval. For each: `evidence`, `ended`, `decided`. Not thread-safe."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.rolled_back = 0
        self._previous: IntervalMetrics | None = None
        self._history: deque[Decision] = deque(maxlen=REMEMBERED)
        self._prior_age = 0

    @property
    def previous(self) -> IntervalMetrics | None:
        """The interval that ended last."""
        return self._previous

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
            previous=self._previous,
            counterfactuals=counterfactuals or {},
            history=tuple(self._history),
            fresh_share=fresh_share,
            prior_age=self._prior_age + 1,
            rolled_back=self.rolled_back,
        )

    def ended(self, metrics: IntervalMetrics) -> None:
        """The interval is over."""
        self._previous = metrics
        self._prior_age += 1

    def decided(self, plan: Plan, *, rebuilt: bool = False, rolled_back: bool = False) -> None:
        """``plan`` is in force from now on; ``rebuilt``: with a prior that was computed for it."""
        last = self._previous
        if last is not None and plan != last.plan:
            self._history.append(Decision(last.plan, step_milliseconds(last)))
        if rebuilt:
            self._prior_age = 0
        self.rolled_back += rolled_back
