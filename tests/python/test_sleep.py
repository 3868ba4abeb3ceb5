"""A controller that gains nothing is put to sleep by a live run's steering; no plan comes in unseen."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from rudder import Evidence, IntervalMetrics, Plan
from rudder.agent.balance import CALM, STRETCH
from rudder.agent.guard import ALLOWANCE, Guard
from rudder.agent.space import Space
from rudder.steering import Steering


class Even:
    """A shadow that finds all plans alike, and the run as fast as under the default plan."""

    works, steps, fresh_share, asleep = True, 32, None, False
    live_ms = default_ms = 250.0

    def __init__(self) -> None:
        self.looks = 0

    def sleep(self) -> None:
        self.asleep = True

    def wake(self) -> None:
        self.asleep = False

    def end_interval(self, metrics: IntervalMetrics, waiting_bytes: int | None) -> bool:
        self.looks += not self.asleep
        return not self.asleep

    def look(self) -> bool:
        return True

    def counterfactuals(self, plans: Mapping[str, Plan], *, slower: float = 1.0) -> dict[str, float]:
        return dict.fromkeys(plans, 250.0)


class Deeper:
    """Wants one minibatch more of depth, once, and is asked so many times."""

    def __init__(self) -> None:
        self.asked = 0

    def decide(self, evidence: Evidence) -> Plan:
        self.asked += 1
        return evidence.plan.but(depth=3)


class Notes:
    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def add(self, **amounts: float) -> None: ...
    def put(self, **values: float) -> None: ...
    def decided(self, values: dict[str, Any]) -> None:
        self.lines.append(values)


def drive(steering: Steering, metrics: IntervalMetrics, number: int) -> None:
    """One interval, as the planner does it."""
    steering.accept(steering.step(replace(metrics, interval=number, plan=steering.plan)))
    back = steering.settle()
    if back is not None:
        steering.accept(back)


def test_it_sleeps_under_the_default_plan_until_the_work_changes(
    usual: IntervalMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    controller, notes = Deeper(), Notes()
    steering = Steering(controller, Space(), name="deeper", shadow=Even(), guard=Guard(Plan()))  # type: ignore[arg-type]
    steering.write_to(notes)
    with caplog.at_level(logging.WARNING, "rudder"):
        for number in range(STRETCH):
            assert not steering.asleep
            drive(steering, usual, number)
    assert steering.asleep
    assert steering.plan == Plan()
    assert "it gained 0.000 s against the default plan" in caplog.text
    assert notes.lines[-1]["after"] == str(Plan())
    assert "sleeps for" in notes.lines[-1]["reason"]
    assert str(Plan(depth=3)) in {line["after"] for line in notes.lines}  # it was let in meanwhile

    for number in range(STRETCH, STRETCH + 5):
        drive(steering, usual, number)
    assert controller.asked == STRETCH
    assert [line["outcome"] for line in notes.lines[-5:]] == ["asleep"] * 5
    for number in range(CALM + 1):
        drive(steering, replace(usual, rows_requested=2400), STRETCH + 5 + number)
    assert not steering.asleep
    assert controller.asked == STRETCH + 1


def asleep(
    controller: Any, shadow: Even, usual: IntervalMetrics, plan: Plan, guard: Guard | None = None
) -> Steering:
    """A run whose controller has just been put to sleep."""
    guard = guard or Guard(plan)
    steering = Steering(controller, Space(plan), name="deeper", shadow=shadow, guard=guard)  # type: ignore[arg-type]
    for number in range(STRETCH):
        drive(steering, usual, number)
    assert steering.asleep
    return steering


def test_its_shadow_sleeps_once_the_run_is_as_fast_as_under_the_default_plan(usual: IntervalMetrics) -> None:
    shadow, guard = Even(), Guard(Plan())
    steering = asleep(Deeper(), shadow, usual, Plan(), guard)
    assert not shadow.asleep
    shadow.live_ms = 255.0
    account_ms = guard.account_ms
    for number in range(3):
        drive(steering, usual, STRETCH + number)
    assert not shadow.asleep
    # What the plan before costs still is booked.
    assert guard.account_ms == pytest.approx(account_ms - 3 * (0.02 - ALLOWANCE) * 250 * 32)
    shadow.live_ms = 250.5
    drive(steering, usual, STRETCH + 3)
    assert shadow.asleep
    for number in range(20):
        drive(steering, usual, STRETCH + 4 + number)
    assert shadow.looks == STRETCH + 4


def test_a_sleeping_shadow_is_woken_with_the_controller_and_its_buffers_fill_first(
    usual: IntervalMetrics,
) -> None:
    shadow, controller = Even(), Deeper()
    steering = asleep(controller, shadow, usual, Plan())
    for number in range(2):
        drive(steering, usual, STRETCH + number)
    assert shadow.asleep
    changed = replace(usual, rows_requested=2 * usual.rows_requested)
    for number in range(CALM):
        drive(steering, changed, STRETCH + 2 + number)
    assert not steering.asleep
    assert not shadow.asleep
    shadow.counterfactuals = lambda plans, *, slower=1.0: {  # type: ignore[method-assign]
        name: 250.0 if plan.depth == 2 else 200.0 for name, plan in plans.items()
    }
    depths = []
    for number in range(3):
        drive(steering, changed, STRETCH + 2 + CALM + number)
        depths.append(steering.plan.depth)
    assert depths == [2, 3, 3]


def test_nothing_sleeps_while_a_plan_of_the_scripts_own_is_in_force(usual: IntervalMetrics) -> None:
    shadow = Even()
    steering = asleep(Deeper(), shadow, usual, Plan())
    steering.accept(Plan(depth=6))
    drive(steering, usual, STRETCH)
    assert steering.asleep
    assert not shadow.asleep


def test_a_prior_that_counts_is_kept_up_to_date_while_it_sleeps(usual: IntervalMetrics) -> None:
    counted = Plan(prior="frequency", half_life=128)
    steering = asleep(Deeper(), Even(), replace(usual, plan=counted), counted)
    for number in range(3):
        answer = steering.step(replace(usual, interval=STRETCH + number, plan=counted))
        assert answer.rebuild
        steering.accept(answer.but(rebuild=False), rebuilt=True)
        assert steering.settle() is None


class Seldom(Even):
    """Looks only when it is told to, and where that tells something."""

    tells = False

    def end_interval(self, metrics: IntervalMetrics, waiting_bytes: int | None) -> bool:
        return False

    def look(self) -> bool:
        self.looks += 1
        return self.tells


def test_nothing_comes_into_force_unseen(usual: IntervalMetrics) -> None:
    shadow, guard = Seldom(), Guard(Plan())
    steering = Steering(Deeper(), Space(), name="deeper", shadow=shadow, guard=guard)  # type: ignore[arg-type]
    for number in range(10):
        drive(steering, usual, number)
    assert (shadow.looks, steering.plan) == (10, Plan())
    shadow.tells = True
    while steering.plan == Plan():  # until the guard's account covers it
        assert shadow.looks < 40
        drive(steering, usual, shadow.looks)
    before = shadow.looks
    drive(steering, usual, shadow.looks)  # the answer is the plan in force
    assert shadow.looks == before


def test_without_a_guard_nothing_sleeps(usual: IntervalMetrics) -> None:
    steering = Steering(Deeper(), Space(), name="deeper", shadow=Even())  # type: ignore[arg-type]
    for number in range(3 * STRETCH):
        drive(steering, usual, number)
    assert not steering.asleep
    assert steering.plan.depth == 3
