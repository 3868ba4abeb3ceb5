"""The tree of plans: every walk writes an allowed plan, steps are bounded, any answer has a nearest plan."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rudder.agent.space import LADDERS, Space
from rudder.plan import BOUNDS, PRIORS, Plan


def plans() -> st.SearchStrategy[Plan]:
    numbers = {
        name: st.integers(round(low / step), round(high / step)).map(lambda n, step=step: n * step)
        for name, (low, high, step) in BOUNDS.items()
    }
    return st.builds(
        Plan, **numbers, prior=st.sampled_from(PRIORS), rebuild=st.booleans(), replace=st.booleans()
    )


spaces = st.builds(
    Space,
    priors=st.lists(st.sampled_from(PRIORS), min_size=1, unique=True).map(tuple),
    scores=st.booleans(),
    shares=st.booleans(),
)


@given(spaces, plans(), st.randoms(use_true_random=False))
def test_every_walk_writes_an_allowed_plan(space: Space, plan: Plan, random: Any) -> None:
    text, chosen = "", {}
    while (branch := space.walk(plan, chosen)) is not None:
        before, values = branch
        written, value = random.choice(values)
        text += before + written
        chosen[list(_fields())[len(chosen)]] = value
    answer = Plan.parse(text)
    assert answer == Plan(**chosen)
    assert space.allows(plan, answer)


def _fields() -> tuple[str, ...]:
    from rudder.plan import KEYS

    return tuple(KEYS.values())


@given(spaces, plans(), plans())
def test_any_answer_is_brought_inside_and_stays_there(space: Space, plan: Plan, answer: Plan) -> None:
    bounded = space.bounded(plan, answer)
    assert space.allows(plan, bounded)
    assert space.bounded(plan, bounded) == bounded


@given(plans(), plans())
def test_a_knob_moves_by_one_place_of_its_ladder(plan: Plan, answer: Plan) -> None:
    bounded = Space(shares=True).bounded(plan, answer)
    for name, ladder in LADDERS.items():
        old, new = sorted((getattr(plan, name), getattr(bounded, name)))
        assert sum(old < value < new for value in ladder) == 0


@given(spaces, plans())
def test_candidates_are_allowed_and_differ(space: Space, plan: Plan) -> None:
    found = space.candidates(plan)
    assert next(iter(found)) == "="
    assert found["="] == plan.but(rebuild=False)
    for name, candidate in found.items():
        if name not in ("=", "df", "y", "n"):
            assert candidate != found["="]


def test_the_papers_mode_decides_replacement_alone() -> None:
    space = Space(scores=True)
    answer = space.bounded(Plan(), Plan(window=1, depth=9, replace=False, fraction=30))
    assert answer == Plan(replace=False, fraction=25)
    assert set(space.candidates(Plan())) == {"=", "y", "n", "df"}


@pytest.mark.parametrize(
    ("wanted", "found"), [(Plan(window=16), 6.0), (Plan(window=0), 3.0), (Plan(window=4.25), 4.0)]
)
def test_the_nearest_step_is_taken(wanted: Plan, found: float) -> None:
    assert Space().bounded(Plan(window=4), wanted).window == found
