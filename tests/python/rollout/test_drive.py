"""A controller through a long workload: it sleeps where nothing is gained, costs nothing then, and wakes."""

from __future__ import annotations

import pytest

from rudder.agent.balance import STRETCH, Balance
from rudder.agent.default import DefaultController
from rudder.agent.evidence import Evidence
from rudder.agent.shadow import ShadowController
from rudder.plan import Plan
from rudder.rollout.drive import Drive, drive
from rudder.rollout.generate import workload
from rudder.rollout.terms import LIVE
from rudder.rollout.workload import Workload


@pytest.fixture(scope="module")
def steady() -> Workload:
    return workload("steady", 1000, held_out=True, intervals=64)


class Worst:
    """The candidate of most modelled time."""

    def decide(self, evidence: Evidence) -> Plan:
        times = evidence.counterfactuals
        worst = max(times, key=lambda name: times[name]) if times else "="
        return evidence.space.candidates(evidence.plan)[worst]


class Watched:
    """The shadow controller, and how often it was asked."""

    def __init__(self) -> None:
        self.controller = ShadowController()
        #: Intervals in which it was asked, and those of them whose counterfactuals it was told.
        self.asked: list[int] = []
        self.known: list[int] = []

    def decide(self, evidence: Evidence) -> Plan:
        self.asked.append(evidence.metrics.interval)
        if evidence.counterfactuals:
            self.known.append(evidence.metrics.interval)
            assert all(0 < ms < float("inf") for ms in evidence.counterfactuals.values())
        return self.controller.decide(evidence)


def driven(some: Workload) -> tuple[Drive, Watched]:
    watched = Watched()
    return drive(some, lambda simulator: watched, terms=LIVE), watched


def test_where_nothing_is_gained_it_costs_nothing_in_the_end(
    steady: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = drive(steady, lambda simulator: DefaultController(), terms=LIVE, shadow=False)
    slept, watched = driven(steady)
    assert slept.asleep >= slept.intervals // 3
    assert len(watched.asked) == slept.intervals - slept.asleep >= STRETCH
    monkeypatch.setattr(Balance, "add", lambda self, metrics, **amounts: None)
    sleepless, _ = driven(steady)
    assert sleepless.asleep == 0
    costs = [1 - default.step_ms / each.step_ms for each in (slept, sleepless)]
    assert costs[1] > 0.002
    # What is left of the cost is that of the intervals in which it was awake.
    assert costs[0] == pytest.approx(costs[1] * len(watched.asked) / slept.intervals, rel=0.25)


def test_it_wakes_where_the_work_changes() -> None:
    some = workload("fanout", 1000, held_out=True, intervals=128)
    run, watched = driven(some)
    first = next(number for number, awake in enumerate(watched.asked) if awake != number)
    assert run.asleep > 0
    assert watched.asked[-1] > first  # it was asked again
    after = [number for number in watched.known if number > watched.asked[first]]
    assert after  # and knew then what other plans would have taken
    assert len(after) >= 0.2 * (len(watched.asked) - first)


def test_what_is_let_in_after_a_sleep_is_guarded_as_before() -> None:
    some = workload("bandwidth", 1000, held_out=True, intervals=64)
    default = drive(some, lambda simulator: DefaultController(), guarded=False)
    slept = drive(some, lambda simulator: Worst(), terms=LIVE)
    assert slept.asleep > 0
    assert slept.step_ms <= 1.01 * default.step_ms
