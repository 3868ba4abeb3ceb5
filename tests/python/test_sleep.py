"""A controller that gains nothing and costs something is put to sleep by a live run's steering, and woken."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from rudder import Evidence, IntervalMetrics, Plan
from rudder.agent.balance import CALM, STRETCH
from rudder.agent.guard import Guard
from rudder.agent.space import Space
from rudder.steering import Steering


class Even:
    """A shadow that finds all plans alike, and the run as fast as under the default plan."""

    works, steps, fresh_share = True, 32, None
    live_ms = default_ms = 250.0

    def end_interval(self, metrics: IntervalMetrics, waiting_bytes: int | None) -> bool:
        return True

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


def test_without_a_guard_nothing_sleeps(usual: IntervalMetrics) -> None:
    steering = Steering(Deeper(), Space(), name="deeper", shadow=Even())  # type: ignore[arg-type]
    for number in range(3 * STRETCH):
        drive(steering, usual, number)
    assert not steering.asleep
    assert steering.plan.depth == 3
