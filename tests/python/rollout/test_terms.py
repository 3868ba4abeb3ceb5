"""A simulated run on the terms of a live one: what cannot be had there is not had here, and looking costs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rudder.plan import Plan
from rudder.rollout.generate import workload
from rudder.rollout.paid_shadow import PaidShadow
from rudder.rollout.simulator import Simulator
from rudder.rollout.terms import LIVE, Terms
from rudder.rollout.workload import Workload

COUNTED = Plan(prior="frequency", half_life=128, window=0, depth=1)


@pytest.fixture(scope="module")
def memory() -> Workload:
    return workload("memory", 1)


def test_vip_is_not_computed_anew_in_a_live_run(memory: Workload) -> None:
    assert "b" in Simulator(memory, shadow=False).space.candidates(Plan())
    live = Simulator(memory, terms=LIVE, shadow=False).space
    assert "b" not in live.candidates(Plan())
    assert "b" in live.candidates(COUNTED)


def moved(simulator: Simulator, plan: Plan) -> int:
    return simulator.step(plan).metrics.rows_moved


def test_a_live_run_counts_accesses_only_while_that_is_its_prior(memory: Workload) -> None:
    plan = COUNTED.but(prior="none", half_life=0)
    always, live, none = (
        Simulator(memory, plan, terms=terms, shadow=False)
        for terms in (Terms(), Terms(counts_in_force=True), Terms())
    )
    for simulator in (always, live, none):
        moved(simulator, plan)
    counted, blank = moved(always, COUNTED), moved(live, COUNTED)
    # The first counts of a live run come an interval later, without being asked for.
    assert counted < 0.95 * blank
    assert blank == pytest.approx(moved(none, plan), rel=0.01)
    assert moved(live, COUNTED) < 0.95 * moved(none, plan)


def test_looking_is_paid_for_and_waits_until_it_can_be() -> None:
    large = workload("bandwidth", 1000, held_out=True)
    free, live = Simulator(large), Simulator(large, terms=LIVE)
    looked = []
    while not live.done:
        free.step(Plan())
        looked.append(bool(live.step(Plan()).counterfactuals))
    assert looked[0]
    assert 0.2 * len(looked) < sum(looked) < len(looked)
    assert live.shadow is not None
    assert free.shadow is not None
    assert free.shadow.spent == 0
    assert live.milliseconds == pytest.approx(free.milliseconds + 1000 * live.shadow.spent)
    # No more than its share, and one look on top.
    assert live.shadow.spent < 0.004 * free.milliseconds / 1000 + 2 * live.shadow.spent / sum(looked)


def test_what_the_guard_asks_is_paid_for_too(memory: Workload) -> None:
    simulator = Simulator(memory, terms=LIVE)
    simulator.step(Plan())
    shadow = simulator.shadow
    assert isinstance(shadow, PaidShadow)
    before = shadow.spent
    shadow.counterfactuals({"answer": Plan(depth=3), "default": Plan(), "same": Plan()})
    first = shadow.spent - before
    shadow.counterfactuals({"answer": Plan(depth=3)})
    assert shadow.spent - before == pytest.approx(1.5 * first)


@pytest.mark.parametrize("kind", ["phases", "sliding"])
def test_the_shadow_ranks_rows_by_what_the_run_has_counted_not_by_all_that_it_saw(kind: str) -> None:
    some = workload(kind, 1001, held_out=True)
    default = Plan(interval=32, prior=some.priors[0], window=0)
    simulator = Simulator(some, default, terms=replace(LIVE, shadow_share=None))
    assert simulator.shadow is not None
    plan = default
    for interval in range(15):
        if interval == 5:
            plan = default.but(prior="frequency", half_life=128)
        if interval == 10:
            plan = plan.but(rebuild=True)
        measured = simulator.step(plan).metrics.seconds_wall
        modelled = simulator.shadow.live_ms
        assert modelled is not None
        assert modelled * plan.interval / 1000 == pytest.approx(measured, rel=0.045), interval
