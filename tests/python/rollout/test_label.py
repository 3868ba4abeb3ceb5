"""Labels are the best plan that may follow, in several knobs at once, and no change where nothing gains."""

from __future__ import annotations

import pytest

from rudder.agent.evidence import Evidence
from rudder.agent.space import Space
from rudder.metrics import IntervalMetrics
from rudder.plan import Plan
from rudder.rollout.label import label, reachable

SPACE = Space(priors=("vip", "none"))
PLAN = Plan(window=4, depth=4, buffer_share=80)


def labelled(cost, space: Space = SPACE, plan: Plan = PLAN):
    evidence = Evidence(IntervalMetrics("t", 0, 0, 10, plan, 100, seconds_wall=1.0), space)
    return label(evidence, cost, "test:1")


def saving(**gains: float):
    """10 ms, less a share for each knob that has the named value."""

    def cost(plan: Plan) -> float:
        share = 0.0
        for name, gain in gains.items():
            knob, _, value = name.partition("_is_")
            share += gain if str(getattr(plan, knob)) == value else 0.0
        return 10.0 * (1 - share)

    return cost


def test_gains_that_add_up_are_taken_together() -> None:
    found = labelled(saving(depth_is_6=0.05, buffer_share_is_90=0.03, prior_is_none=0.01))
    assert Plan.parse(found.answer) == PLAN.but(depth=6, buffer_share=90, prior="none")
    assert (found.best, found.gain) == ("d+", pytest.approx(0.09))


def test_gains_that_do_not_add_up_are_not() -> None:
    def cost(plan: Plan) -> float:
        return 10.0 - min(0.5, 0.5 * (plan.depth == 6) + 0.4 * (plan.buffer_share == 90))

    assert Plan.parse(labelled(cost).answer) == PLAN.but(depth=6)


def test_one_step_up_and_one_down_exclude_each_other() -> None:
    found = labelled(saving(depth_is_3=0.04, depth_is_6=0.05))
    assert Plan.parse(found.answer) == PLAN.but(depth=6)


def test_what_is_not_worth_it_changes_nothing() -> None:
    found = labelled(saving(depth_is_6=0.004))
    assert (Plan.parse(found.answer), found.best, found.gain) == (PLAN, "=", 0.0)


def test_what_is_at_stake_weighs() -> None:
    nothing, little, much = (labelled(saving(depth_is_6=gain)) for gain in (0.0, 0.01, 0.02))
    assert nothing.weight < little.weight < much.weight


def test_the_default_far_away_is_one_step_each_knob() -> None:
    found = reachable(SPACE, PLAN.but(window=8, depth=16))
    assert found["df"] == PLAN.but(window=6, depth=12, buffer_share=90)


def test_the_papers_answer_is_a_label_too() -> None:
    found = labelled(saving(replace_is_False=0.2), Space(scores=True), Plan())
    assert (Plan.parse(found.answer), found.best) == (Plan(replace=False), "n")
