"""The guard: whatever the controller answers, the run takes little longer than the default plan's.

It keeps an account, in modelled time, of the run against the default plan beside it (`rudder.shadow`): what
was modelled earns `ALLOWANCE` of the default plan's time, gains are earned too, losses are paid. Two rules:

**Probation.** A plan other than the default comes into force only while the account covers what it may lose
in one interval: what it would have lost in the past one, by its counterfactual, also on a slower link, and on
top of that what plans have lost beyond such forecasts before (`_surprise`, which fades). So a plan that is
known to be worse is refused before it does harm, and one that turns out worse is paid from what was earned.

**Roll-back.** Where the run was slower than the default plan by more than `BOUND` in `PATIENCE` intervals
running, or the account no longer covers the plan in force, the default plan comes back for `STRETCH`
intervals, and the controller is told (`Evidence.rolled_back`).

**The promise**, for all that was modelled: time of the run <= (1 + `ALLOWANCE`) * time of the default plan
- `account_ms`. While the account is not below nothing, that is below 1%. It falls below by what one plan
loses beyond its forecast, until the default plan is back and the buffer has recovered from it; then nothing
else is let through before that is earned again. Computing a prior is part of such a loss. While a controller
sleeps (`rudder.agent.balance`) and the run is as fast again as under the default plan, nothing is modelled:
that plan is in force, so such intervals take the same on both sides, and nothing is booked. So a run of N
intervals loses at most 1% and 1 / N of what its two worst intervals in succession lost, as shares of an
interval: in a run of 16 intervals that may be more than 1% in all, in a long one it is not. What the model
leaves out, the guard does not see.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from rudder.agent.default import kept
from rudder.plan import Plan

#: Share of the default plan's time that may be lost in the long run; what is left to 1% is for the model's
#: errors.
ALLOWANCE = 0.0075
#: An interval so much slower than under the default plan counts against the plan in force ...
BOUND = 0.02
#: ... and after so many of them running the default comes back,
PATIENCE = 2
#: for so many intervals.
STRETCH = 8
# The account holds no more than this share of a default plan's interval: a long good time must not pay for a
# long bad one.
_MOST = 0.25
# What plans may lose beyond their forecasts, as a share of an interval: at least, before any was tried, and
# how much of a worse surprise is still feared an interval later.
_LEAST_SURPRISE = 0.005
_FIRST_SURPRISE = 0.04
_FADING = 0.85
# A link so many times slower is thought of, and this much of what a plan would lose on it.
_STRESS, _STRESS_WEIGHT = 2.0, 0.5
# Intervals in which the buffer fills: they tell nothing of what a plan does to a full one.
_FILLING = 2


class Modelled(Protocol):
    """What the guard asks of a shadow; see `rudder.shadow.Shadow`."""

    @property
    def live_ms(self) -> float | None:
        """Modelled milliseconds a step of the past interval; None: nothing is known yet."""
        ...

    @property
    def default_ms(self) -> float | None:
        """The same, under the default plan from the beginning."""
        ...

    @property
    def steps(self) -> int:
        """Minibatches of which these are the means: of several intervals, where those piled up."""
        ...

    def counterfactuals(self, plans: Mapping[str, Plan], *, slower: float = 1.0) -> dict[str, float]:
        """Modelled milliseconds a step of the past interval, also had the link been so many times slower."""
        ...


class Guard:
    """Stands between a controller and the planner. Used by one thread."""

    def __init__(self, default: Plan) -> None:
        """``default``: what the run started with."""
        self.default = default.but(rebuild=False)
        #: Times that the default plan was put back, and answers refused before they came into force.
        self.rolled_back = 0
        self.refused = 0
        #: Intervals until plans other than the default are let through again.
        self.resting = 0
        #: Modelled milliseconds that may be lost; below 0: that were lost beyond what was earned.
        self.account_ms = 0.0
        # As shares of an interval.
        self._surprise = _FIRST_SURPRISE
        self._forecast = 0.0
        self._intervals = 0
        self._slow = 0

    def review(self, in_force: Plan, answer: Plan, shadow: Modelled) -> Plan:
        """The plan that may come into force instead of ``answer``: itself, or the default.

        Call once an interval, after the shadow has modelled it.
        """
        if shadow.live_ms is None or not shadow.default_ms:
            return self.default  # nothing is known yet, and the run began with it
        piled = max(1, round(shadow.steps / in_force.interval))
        self._settle(shadow.live_ms, shadow.default_ms, shadow.steps, piled)
        self._intervals += piled
        if self.resting > 0 or self._intervals < _FILLING:
            self.resting = max(0, self.resting - piled)
            return self._usual(answer)
        if self._slow >= PATIENCE and not in_force.works_like(self.default):
            return self._roll_back(answer)
        if answer.works_like(self.default) and not answer.rebuild:
            self._forecast = 0.0
            return answer
        loss = self._loss(answer, shadow)
        if (loss + self._surprise) * shadow.default_ms * answer.interval <= self.account_ms:
            self._forecast = loss
            return answer
        if not in_force.works_like(self.default):
            return self._roll_back(answer)
        self.refused += 1
        return self._usual(answer)

    def idle(self, in_force: Plan, shadow: Modelled) -> bool:
        """Is nothing left to guard while only the default plan is in force? It is, and the buffer has
        recovered from the plan before: the past interval took nothing from the account.
        """
        if shadow.live_ms is None or not shadow.default_ms:
            return False
        recovered = shadow.live_ms <= (1 + ALLOWANCE) * shadow.default_ms
        return recovered and in_force.but(share=self.default.share).works_like(self.default)

    def began_anew(self) -> None:
        """The shadow has: its buffers have to fill before they tell anything."""
        self._intervals = 0

    def _settle(self, live_ms: float, default_ms: float, steps: int, piled: int) -> None:
        """Book what was modelled: so many steps, which are so many intervals."""
        excess = live_ms / default_ms - 1
        earned = self.account_ms + (ALLOWANCE - excess) * default_ms * steps
        self.account_ms = min(earned, _MOST * default_ms * self.default.interval)
        beyond = excess - self._forecast
        self._surprise = max(_LEAST_SURPRISE, _FADING**piled * self._surprise, beyond)
        self._slow = self._slow + piled if excess > BOUND else 0

    def _loss(self, answer: Plan, shadow: Modelled) -> float:
        """What the answer would have lost (< 0: gained) in the past interval, against the default plan.

        Also on a slower link, by half: moving more rows costs nothing until the link is what counts.
        """
        plans = {"answer": answer, "default": self.default}
        losses = []
        for slower, weight in ((1.0, 1.0), (_STRESS, _STRESS_WEIGHT)):
            tried = shadow.counterfactuals(plans, slower=slower)
            if tried.get("default"):
                losses.append(weight * (tried["answer"] / tried["default"] - 1))
        return max(losses, default=0.0)

    def _roll_back(self, answer: Plan) -> Plan:
        self.rolled_back += 1
        self.resting = STRETCH - 1
        return self._usual(answer)

    def _usual(self, answer: Plan) -> Plan:
        """The default plan; a prior that counts is kept up to date, as the default controller does."""
        self._forecast = 0.0
        return kept(self.default).but(interval=answer.interval)
