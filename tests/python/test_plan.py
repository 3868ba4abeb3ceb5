"""Plans: bounds, steps, and one text form each."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rudder.errors import ConfigError
from rudder.plan import BOUNDS, PRIORS, Plan


def on_grid(name: str) -> st.SearchStrategy[float]:
    low, high, step = BOUNDS[name]
    return st.integers(round(low / step), round(high / step)).map(lambda steps: steps * step)


plans = st.builds(
    Plan,
    **{name: on_grid(name) for name in BOUNDS},
    prior=st.sampled_from(PRIORS),
    rebuild=st.booleans(),
    replace=st.booleans(),
)


@given(plans)
def test_text_form_round_trips(plan: Plan) -> None:
    assert Plan.parse(str(plan)) == plan


@given(plans, plans)
def test_different_plans_have_different_texts(one: Plan, other: Plan) -> None:
    assert (str(one) == str(other)) == (one == other)


@given(st.text(max_size=80))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Plan.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "v2 w=4 d=2 m=100 s=100 p=vip h=0 b=0 i=32 r=1 f=100",
        "w=4 d=2 m=100 s=100 p=vip h=0 b=0 i=32 r=1 f=100",
        "v1 w=4.0 d=2 m=100 s=100 p=vip h=0 b=0 i=32 r=1 f=100",
        "v1 w=4 d=2 m=100 s=100 p=vip h=0 b=0 i=32 r=1",
        "v1 w=4 d=2 m=100 s=100 p=vip h=0 b=0 i=32 r=1 f=100 ",
        "v1 w=4 d=2 m=100 s=100 p=vip h=0 b=0 i=32 r=yes f=100",
        "v1 d=2 w=4 m=100 s=100 p=vip h=0 b=0 i=32 r=1 f=100",
        "v1 w=4 w=4 m=100 s=100 p=vip h=0 b=0 i=32 r=1 f=100",
        "v1 w=4 d=02 m=100 s=100 p=vip h=0 b=0 i=32 r=1 f=100",
        "v1 w=17 d=2 m=100 s=100 p=vip h=0 b=0 i=32 r=1 f=100",
        "v1 w=4 d=2 m=100 s=100 p=best h=0 b=0 i=32 r=1 f=100",
        "v1 w=4 d=2 m=100 s=100 p=vip h=0 b=0 i=32 r=1 f=100 g=0",
        "v1 w=4 d=2 m=100 s=100 p=vip h=0 b=0 i=32 r=1 f=100 g=7",
    ],
)
def test_near_misses_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="plan"):
        Plan.parse(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"window": -1},
        {"window": 0.3},
        {"window": float("nan")},
        {"window": "4"},
        {"depth": 0},
        {"depth": 2.5},
        {"depth": True},
        {"buffer_share": 5},
        {"device_share": 101},
        {"interval": 5},
        {"half_life": -1},
        {"prior": "best"},
        {"rebuild": 1},
        {"replace": "yes"},
    ],
)
def test_values_outside_bounds_or_steps_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Plan(**wrong)


def test_but_brings_numbers_to_the_nearest_allowed_value() -> None:
    plan = Plan().but(window=2.9, depth=1000, interval=1)
    assert (plan.window, plan.depth, plan.interval) == (3.0, 64, 4)
    with pytest.raises(ConfigError, match="windows"):
        Plan().but(windows=3)


def test_the_default_text_is_stable() -> None:
    assert str(Plan()) == "v1 w=4 d=2 m=100 s=100 p=vip h=0 b=0 i=32 r=1 f=100"
    assert str(Plan(device_share=50)) == "v1 w=4 d=2 m=100 s=100 p=vip h=0 b=0 i=32 r=1 f=100 g=50"


def test_plans_work_alike_that_differ_in_nothing_that_moves_rows() -> None:
    plan = Plan(prior="frequency", half_life=128)
    assert plan.works_like(plan.but(interval=64))
    assert plan.but(rebuild=True).works_like(plan)
    assert plan.works_like(plan.but(rebuild=True))
    for other in (plan.but(depth=3), plan.but(share=75), plan.but(half_life=32), plan.but(device_share=5)):
        assert not plan.works_like(other)
