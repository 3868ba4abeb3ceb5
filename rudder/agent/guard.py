"""The guard: whatever the controller answers, the run takes at most about 1% longer than the default plan's.

It keeps an account, in modelled time, of the run against the default plan beside it (`rudder.shadow`): every
interval earns `ALLOWANCE` of the default plan's time, gains are earned too, losses are paid. Two rules:

**Probation.** A plan other than the default comes into force only while the account covers what it may lose
in one interval: what it would have lost in the past one, by its counterfactual, also on a slower link, and on
top of that what plans have lost beyond such forecasts before (`_surprise`, which fades). So a plan that is
known to be worse is refused before it does harm, and one that turns out worse is paid from what was earned.

**Roll-back.** Where the run was slower than the default plan by more than `BOUND` in two intervals running,
or the account no longer covers the plan in force, the default plan comes back for `STRETCH` intervals, and
the controller is told (`Evidence.rolled_back`).

What the promise rests on: the model, and that an interval is a small part of a run. Forecasts are of the
interval past; what the next one loses beyond them is paid back by the allowance of later ones. Measured on
simulated runs of 16 intervals, with controllers that answer at random, the worst, or now this and now that:
at most 1%, and once, on top of that, the time of computing a prior.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

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
# The account holds no more than this share of an interval: a long good time must not pay for a long bad one.
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
        # In intervals of the default plan.
        self._account = 0.0
        self._surprise = _FIRST_SURPRISE
        self._intervals = 0
        self._forecast = 0.0
        self._slow = 0

    def review(self, in_force: Plan, answer: Plan, shadow: Modelled) -> Plan:
        """The plan that may come into force instead of ``answer``: itself, or the default.

        Call once an interval, after the shadow has modelled it.
        """
        if shadow.live_ms is None or not shadow.default_ms:
            return self.default  # nothing is known yet, and the run began with it
        self._settle(shadow.live_ms / shadow.default_ms - 1)
        self._intervals += 1
        if self.resting > 0 or self._intervals < _FILLING:
            self.resting = max(0, self.resting - 1)
            return self._usual(answer)
        if self._slow >= PATIENCE and not self._is_default(in_force):
            return self._roll_back(answer)
        if self._is_default(answer) and not answer.rebuild:
            self._forecast = 0.0
            return answer
        loss = self._loss(answer, shadow)
        if loss + self._surprise <= self._account:
            self._forecast = loss
            return answer
        if not self._is_default(in_force):
            return self._roll_back(answer)
        self.refused += 1
        return self._usual(answer)

    def _settle(self, excess: float) -> None:
        """Book the past interval: ``excess`` is its loss as a share of the default plan's time."""
        self._account = min(self._account + ALLOWANCE - excess, _MOST)
        beyond = excess - self._forecast
        self._surprise = max(_LEAST_SURPRISE, _FADING * self._surprise, beyond)
        self._slow = self._slow + 1 if excess > BOUND else 0

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
        self._slow = 0
        return self._usual(answer)

    def _usual(self, answer: Plan) -> Plan:
        """The default plan; a prior that counts is kept up to date, as the default controller does."""
        self._forecast = 0.0
        return self.default.but(rebuild=self.default.prior == "frequency", interval=answer.interval)

    def _is_default(self, plan: Plan) -> bool:
        """How often decisions are made is no part of how fast the run is."""
        return plan.but(rebuild=False, interval=self.default.interval) == self.default
