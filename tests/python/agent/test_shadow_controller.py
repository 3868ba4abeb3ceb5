"""The controller without a model follows its shadow, and noise does not move it; the oracle is not live."""

from __future__ import annotations

import pytest

from rudder.agent import make_controller
from rudder.agent.evidence import Evidence
from rudder.agent.shadow import ShadowController
from rudder.agent.space import Space
from rudder.errors import ConfigError
from rudder.metrics import IntervalMetrics
from rudder.plan import Plan

PLAN = Plan(depth=2)
SPACE = Space(priors=("vip", "frequency"))


def evidence(plan: Plan = PLAN, **times: float) -> Evidence:
    named = {name.replace("_up", "+").replace("_down", "-"): time for name, time in times.items()}
    found = {"=": 10.0, **named} if times else {}
    return Evidence(IntervalMetrics("t", 0, 0, 32, plan, 100, seconds_wall=1.0), SPACE, counterfactuals=found)


def test_a_clear_gain_is_taken_at_once() -> None:
    assert ShadowController().decide(evidence(d_up=9.0, w_up=9.8)) == PLAN.but(depth=3)


def test_a_small_gain_must_be_seen_twice_running() -> None:
    some = ShadowController()
    assert some.decide(evidence(d_up=9.8)) == PLAN
    assert some.decide(evidence(w_up=9.8)) == PLAN
    assert some.decide(evidence(d_up=9.8)) == PLAN
    assert some.decide(evidence(d_up=9.8)) == PLAN.but(depth=3)


def test_noise_moves_nothing() -> None:
    some = ShadowController()
    for _ in range(10):
        assert some.decide(evidence(d_up=9.95, w_up=9.93, m_down=9.92)) == PLAN


def test_it_rests_after_a_change_and_longer_after_a_rebuild() -> None:
    some = ShadowController()
    assert some.decide(evidence(d_up=9.0)) == PLAN.but(depth=3)
    assert some.decide(evidence(d_up=9.0)) == PLAN
    assert some.decide(evidence(b=8.0)) == PLAN.but(rebuild=True)
    for _ in range(4):
        assert some.decide(evidence(b=8.0)) == PLAN
    assert some.decide(evidence(b=8.0)) == PLAN.but(rebuild=True)


def test_without_counterfactuals_it_keeps_the_plan() -> None:
    assert ShadowController().decide(evidence()) == PLAN
    counting = PLAN.but(prior="frequency")
    assert ShadowController().decide(evidence(counting)) == counting.but(rebuild=True)


def test_it_is_had_by_name() -> None:
    assert isinstance(make_controller("shadow"), ShadowController)


def test_the_oracle_is_refused_live() -> None:
    with pytest.raises(ConfigError, match="replays"):
        make_controller("oracle")
