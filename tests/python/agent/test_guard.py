"""The guard: what is known to be worse never comes into force, what turns out worse is undone."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import pytest

from rudder.agent import balance
from rudder.agent.controller import Controller
from rudder.agent.default import DefaultController
from rudder.agent.evidence import Evidence
from rudder.agent.guard import ALLOWANCE, PATIENCE, STRETCH, Guard
from rudder.agent.shadow import ShadowController
from rudder.bench.agent_players import AskedAhead
from rudder.plan import KEYS, Plan
from rudder.rollout.drive import Drive, drive
from rudder.rollout.generate import KINDS, workload
from rudder.rollout.terms import LIVE, Terms
from rudder.rollout.workload import Workload

DEFAULT, OTHER = Plan(), Plan(depth=3)


class Modelled:
    """A shadow that says what it is told: times as multiples of the default plan's."""

    def __init__(
        self, live: float = 1.0, forecast: float = 1.0, stressed: float | None = None, steps: int = 32
    ) -> None:
        self.live_ms: float | None = 100 * live
        self.default_ms: float | None = 100.0
        self.steps = steps
        self.forecast, self.stressed = forecast, stressed

    def counterfactuals(self, plans: Mapping[str, Plan], *, slower: float = 1.0) -> dict[str, float]:
        other = self.stressed if slower > 1 and self.stressed is not None else self.forecast
        return {name: 100.0 if plan == DEFAULT else 100 * other for name, plan in plans.items()}


def earned(intervals: int) -> Guard:
    guard = Guard(DEFAULT)
    for _ in range(intervals):
        assert guard.review(DEFAULT, DEFAULT, Modelled()) == DEFAULT
    return guard


def test_nothing_but_the_default_before_anything_is_known() -> None:
    blind = Modelled()
    blind.live_ms = None
    assert Guard(DEFAULT).review(DEFAULT, OTHER, blind) == DEFAULT
    assert Guard(DEFAULT).review(DEFAULT, OTHER, Modelled(forecast=0.5)) == DEFAULT


def test_a_plan_that_is_clearly_better_is_let_through_at_once() -> None:
    assert earned(1).review(DEFAULT, OTHER, Modelled(forecast=0.9)) == OTHER


def test_a_plan_that_is_as_good_is_let_through_when_enough_was_earned() -> None:
    assert earned(1).review(DEFAULT, OTHER, Modelled()) == DEFAULT
    assert earned(8).review(DEFAULT, OTHER, Modelled()) == OTHER


def test_a_plan_known_to_be_worse_never_comes_into_force() -> None:
    guard = earned(30)
    for _ in range(50):
        assert guard.review(DEFAULT, OTHER, Modelled(forecast=1.3)) == DEFAULT
    assert (guard.refused, guard.rolled_back) == (50, 0)


def test_a_plan_that_costs_once_the_link_is_slower_is_worse() -> None:
    assert earned(8).review(DEFAULT, OTHER, Modelled(forecast=1.0, stressed=1.4)) == DEFAULT


def test_two_slow_intervals_bring_the_default_back_for_a_while() -> None:
    guard = earned(20)
    assert guard.review(DEFAULT, OTHER, Modelled()) == OTHER
    for _ in range(PATIENCE - 1):
        assert guard.review(OTHER, OTHER, Modelled(live=1.025)) == OTHER
    assert guard.review(OTHER, OTHER, Modelled(live=1.025)) == DEFAULT
    assert guard.rolled_back == 1
    for _ in range(STRETCH - 1):
        assert guard.review(DEFAULT, OTHER, Modelled(forecast=0.5)) == DEFAULT
    assert guard.review(DEFAULT, OTHER, Modelled(forecast=0.5)) == OTHER


def test_one_interval_far_worse_than_forecast_brings_it_back_at_once_and_is_remembered() -> None:
    guard = earned(20)
    assert guard.review(DEFAULT, OTHER, Modelled()) == OTHER
    assert guard.review(OTHER, OTHER, Modelled(live=1.5)) == DEFAULT
    assert guard.rolled_back == 1
    for _ in range(STRETCH + 10):
        assert guard.review(DEFAULT, OTHER, Modelled()) == DEFAULT


def test_a_loss_is_paid_from_gains() -> None:
    guard = earned(10)
    assert guard.review(DEFAULT, OTHER, Modelled(forecast=0.9)) == OTHER
    for _ in range(5):
        assert guard.review(OTHER, OTHER, Modelled(live=0.9, forecast=0.9)) == OTHER
    assert guard.review(OTHER, OTHER, Modelled(live=1.04)) == OTHER


def test_whatever_is_modelled_the_account_holds() -> None:
    # Losses of plans other than the default stay within what was earned, but for the last surprise.
    chance = random.Random(1)
    for _ in range(50):
        guard, in_force, lost, steps = Guard(DEFAULT), DEFAULT, 0.0, 0
        worst = 0.3
        for _ in range(200):
            live = 1.0 if in_force.depth == DEFAULT.depth else 1 + chance.uniform(-0.05, worst)
            answer = OTHER.but(interval=chance.choice((8, 32, 256)))
            lost += 100 * in_force.interval * (live - 1)
            steps += in_force.interval
            told = Modelled(live, chance.uniform(0.9, 1.1), steps=in_force.interval)
            in_force = guard.review(in_force, answer, told)
            assert lost <= 100 * steps * ALLOWANCE - guard.account_ms + 1e-6
        assert lost <= 100 * (steps * ALLOWANCE + 256 * worst)


def test_intervals_that_were_modelled_as_one_count_as_many() -> None:
    guard = Guard(DEFAULT)
    guard.review(DEFAULT, DEFAULT, Modelled(steps=8 * 32))
    assert guard.account_ms == pytest.approx(8 * 32 * 100 * ALLOWANCE)
    assert guard.review(DEFAULT, OTHER, Modelled()) == OTHER
    # Two that piled up are two: no third is waited for.
    assert guard.review(OTHER, OTHER, Modelled(live=1.025, steps=2 * 32)) == DEFAULT
    assert guard.resting == STRETCH - 1
    guard.review(DEFAULT, DEFAULT, Modelled(steps=3 * 32))
    assert guard.resting == STRETCH - 4


def test_a_long_interval_must_be_covered_for_all_its_steps() -> None:
    guard = earned(7)
    assert guard.review(DEFAULT, OTHER.but(interval=256), Modelled()) != OTHER.but(interval=256)
    assert guard.review(DEFAULT, OTHER, Modelled()) == OTHER


def test_how_often_to_decide_stays_the_controllers_choice() -> None:
    guard = earned(1)
    assert guard.review(DEFAULT, DEFAULT.but(interval=64), Modelled()) == DEFAULT.but(interval=64)


STEP = 100 * 32  # of an interval under the default plan, in milliseconds


def test_one_slow_interval_now_and_then_is_borne() -> None:
    guard = earned(40)
    in_force = guard.review(DEFAULT, OTHER, Modelled())
    for live in (1.025, 1.0, 1.025, 1.0):
        in_force = guard.review(in_force, OTHER, Modelled(live))
        assert in_force == OTHER


def test_a_surprise_is_feared_again_before_the_account_is_empty() -> None:
    guard = earned(40)
    assert guard.review(DEFAULT, OTHER, Modelled()) == OTHER
    assert guard.review(OTHER, OTHER, Modelled(live=1.2)) == DEFAULT
    assert guard.rolled_back == 1
    assert guard.account_ms > 0.05 * STEP
    # It fades with every interval, also with those that were modelled as one.
    assert guard.review(DEFAULT, OTHER, Modelled(steps=STRETCH * 32)) == DEFAULT
    assert guard.review(DEFAULT, OTHER, Modelled()) == OTHER


def test_what_was_forecast_is_no_surprise() -> None:
    guard = earned(40)
    guard.account_ms = 0.2 * STEP
    assert guard.review(DEFAULT, OTHER, Modelled(forecast=1.05)) == OTHER
    guard.account_ms = 0.1 * STEP  # of which this interval takes nearly half
    assert guard.review(OTHER, OTHER, Modelled(live=1.04, forecast=1.05)) == OTHER


def test_some_surprise_is_always_feared() -> None:
    guard = earned(100)
    guard.account_ms = -(ALLOWANCE - 0.004) * STEP  # with what the next interval earns: 0.4%
    assert guard.review(DEFAULT, OTHER, Modelled()) == DEFAULT
    guard.account_ms = -(ALLOWANCE - 0.006) * STEP
    assert guard.review(DEFAULT, OTHER, Modelled()) == OTHER


def test_of_what_a_slower_link_would_cost_half_is_feared() -> None:
    assert earned(8).review(DEFAULT, OTHER, Modelled(stressed=1.1)) == OTHER
    assert earned(8).review(DEFAULT, OTHER, Modelled(stressed=1.2)) == DEFAULT


def test_the_default_plan_is_as_it_is() -> None:
    guard = earned(3)
    for _ in range(PATIENCE + 1):  # slower than itself: the buffer recovers from another plan
        assert guard.review(DEFAULT, DEFAULT, Modelled(live=1.05)) == DEFAULT
    assert (guard.rolled_back, guard.resting) == (0, 0)
    often = DEFAULT.but(interval=64)
    assert guard.review(often, OTHER.but(interval=64), Modelled(forecast=1.3, steps=64)) == often
    assert (guard.rolled_back, guard.refused) == (0, 1)


def test_the_gain_of_a_plan_that_went_is_not_missed() -> None:
    def gaining() -> Guard:
        guard = earned(40)
        assert guard.review(DEFAULT, OTHER, Modelled(forecast=0.3)) == OTHER
        return guard

    guard = gaining()
    assert guard.review(OTHER, DEFAULT, Modelled(live=0.3)) == DEFAULT
    assert guard.review(DEFAULT, OTHER, Modelled()) == OTHER
    guard = gaining()
    guard.began_anew()
    assert guard.review(OTHER, OTHER, Modelled(live=0.3)) == DEFAULT
    assert guard.review(DEFAULT, OTHER, Modelled()) == OTHER


def test_computing_the_default_plan_s_prior_anew_must_be_covered_too() -> None:
    guard, anew = earned(20), DEFAULT.but(rebuild=True)
    assert guard.review(DEFAULT, anew, Modelled(forecast=1.3)) == DEFAULT
    assert guard.refused == 1
    assert guard.review(DEFAULT, anew, Modelled(forecast=0.9)) == anew


def test_while_it_rests_the_controller_still_says_how_often() -> None:
    guard = earned(20)
    guard.resting = 3
    assert guard.review(DEFAULT, OTHER.but(interval=64), Modelled()) == DEFAULT.but(interval=64)


def test_nothing_is_left_to_guard_once_the_default_plan_is_as_fast_as_ever() -> None:
    guard = earned(3)
    assert guard.idle(DEFAULT, Modelled(live=1 + 0.9 * ALLOWANCE))
    assert not guard.idle(DEFAULT, Modelled(live=1 + 1.1 * ALLOWANCE))
    assert not guard.idle(OTHER, Modelled())
    assert guard.idle(DEFAULT.but(share=75), Modelled())  # memory that was given away is no plan's fault
    blind = Modelled()
    blind.live_ms = None
    assert not guard.idle(DEFAULT, blind)


def test_a_shadow_that_begins_anew_tells_nothing_before_its_buffers_are_full() -> None:
    guard = earned(20)
    assert guard.review(DEFAULT, OTHER, Modelled(forecast=0.5)) == OTHER
    guard.began_anew()
    assert guard.review(DEFAULT, OTHER, Modelled(forecast=0.5)) == DEFAULT
    assert guard.review(DEFAULT, OTHER, Modelled(forecast=0.5)) == OTHER


class AtRandom:
    """Any plan that may follow."""

    def __init__(self) -> None:
        self._chance = random.Random(7)

    def decide(self, evidence: Evidence) -> Plan:
        chosen: dict[str, object] = {}
        while (branch := evidence.space.walk(evidence.plan, chosen)) is not None:
            chosen[list(KEYS.values())[len(chosen)]] = self._chance.choice(branch[1])[1]
        return Plan(**{**chosen, "interval": evidence.plan.interval})  # type: ignore[arg-type]


class Worst:
    """The candidate of most modelled time."""

    def decide(self, evidence: Evidence) -> Plan:
        times = evidence.counterfactuals
        worst = max(times, key=lambda name: times[name]) if times else "="
        return evidence.space.candidates(evidence.plan)[worst]


class NowThisNowThat:
    """From one end of the knobs to the other."""

    def __init__(self) -> None:
        self._turn = False

    def decide(self, evidence: Evidence) -> Plan:
        self._turn = not self._turn
        if self._turn:
            return evidence.plan.but(buffer_share=50, window=0, prior="none")
        return evidence.plan.but(buffer_share=100, window=8, prior="degree")


def alone(some: Workload) -> Drive:
    """The default plan."""
    return drive(some, lambda simulator: DefaultController(), guarded=False)


def guarded(some: Workload, controller: Controller, terms: Terms | None = None) -> Drive:
    return drive(some, lambda simulator: controller, terms=terms)


ADVERSARIES = (AtRandom, Worst, NowThisNowThat)
Beyond = Callable[[Drive, Drive], float]


@pytest.mark.parametrize("kind", KINDS)
def test_the_promise_holds_whatever_the_controller_answers(kind: str, beyond_the_promise: Beyond) -> None:
    for seed in (1, 2):
        some = workload(kind, seed, held_out=True)
        default = alone(some)
        for made in ADVERSARIES:
            for controller in (made(), AskedAhead(made(), 0.25)):
                live = guarded(some, controller)
                assert beyond_the_promise(live, default) <= 0, f"{some.name}, {made.__name__}"
        # Who follows the evidence, as the pilot has learned to, stays within 1% alone.
        for controller in (ShadowController(), AskedAhead(ShadowController(), 0.25)):
            assert sum(guarded(some, controller).seconds) <= 1.01 * sum(default.seconds), some.name


@pytest.mark.parametrize("kind", ["steady", "bandwidth"])
def test_the_promise_holds_where_the_controller_sleeps_in_between(
    kind: str, beyond_the_promise: Beyond
) -> None:
    some = workload(kind, 1, held_out=True, intervals=64)
    default = alone(some)
    for made in ADVERSARIES:
        live = guarded(some, made(), LIVE)  # where looking costs something
        assert 0 < live.asleep < live.intervals - balance.STRETCH
        assert beyond_the_promise(live, default) <= 0, f"{some.name}, {made.__name__}"


def test_without_the_guard_the_promise_is_broken(beyond_the_promise: Beyond) -> None:
    some = workload("phases", 1, held_out=True)
    unguarded = drive(some, lambda simulator: Worst(), guarded=False)
    assert beyond_the_promise(unguarded, alone(some)) > 0


def test_without_the_guard_they_do() -> None:
    some = workload("phases", 1)
    assert drive(some, lambda simulator: Worst(), guarded=False).step_ms > 1.1 * alone(some).step_ms


def test_it_does_not_stand_in_the_way_of_what_gains() -> None:
    some = workload("memory", 1)
    unguarded = drive(some, lambda simulator: ShadowController(), guarded=False)
    assert unguarded.step_ms < 0.97 * alone(some).step_ms
    assert guarded(some, ShadowController()).step_ms <= 1.02 * unguarded.step_ms
