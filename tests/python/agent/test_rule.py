"""The rule controller follows measured stall and block memory, and does not follow noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from rudder.agent.evidence import Evidence
from rudder.agent.rule import DEEPEST, NARROWEST, WIDEST, RuleController
from rudder.agent.space import Space
from rudder.metrics import IntervalMetrics
from rudder.plan import Plan

#: The plan after each interval, each interval stalled for that share of its time.
Driven = Callable[..., list[Plan]]


@pytest.fixture
def drive(usual: IntervalMetrics) -> Driven:
    def driven(
        controller: RuleController, stalls: list[float], plan: Plan, waiting: int = usual.waiting_bytes
    ) -> list[Plan]:
        plans = []
        for stall in stalls:
            metrics = replace(usual, plan=plan, seconds_stalled_fetching=stall, waiting_bytes=waiting)
            plan = controller.decide(Evidence(metrics))
            plans.append(plan)
        return plans

    return driven


def test_lasting_stall_deepens_the_pipeline(drive: Driven) -> None:
    plans = drive(RuleController(), [0.4, 0.4, 0.2, 0.2, 0.02, 0.02], Plan())
    assert [plan.depth for plan in plans] == [2, 3, 3, 4, 4, 4]


def test_one_bad_interval_changes_nothing(drive: Driven) -> None:
    plans = drive(RuleController(), [0.4, 0.02] * 10, Plan())
    assert {plan.depth for plan in plans} == {2}


def test_depth_that_does_not_help_is_taken_back(drive: Driven) -> None:
    plans = drive(RuleController(), [0.4] * 20, Plan())
    assert max(plan.depth for plan in plans) == 4
    assert plans[-1].depth == 2


def test_without_stall_rows_are_fetched_later(drive: Driven) -> None:
    plans = drive(RuleController(), [0.0] * 8, Plan(depth=4))
    assert [plan.depth for plan in plans] == [4] * 7 + [3]
    assert drive(RuleController(), [0.0] * 40, Plan(depth=1))[-1].depth == 1


def test_depth_stays_within_its_bound(drive: Driven) -> None:
    stalls = [0.9 * 0.8 ** (step // 2) + 0.06 for step in range(80)]
    assert max(plan.depth for plan in drive(RuleController(), stalls, Plan(depth=14))) <= DEEPEST


def test_blocks_that_outgrow_the_buffer_narrow_the_window(drive: Driven) -> None:
    plans = drive(RuleController(), [0.02] * 12, Plan(), waiting=80_000)
    assert plans[0].window == 3.0
    assert plans[-1].window == NARROWEST


def test_a_cut_window_grows_back_when_there_is_memory(drive: Driven) -> None:
    plans = drive(RuleController(), [0.02] * 12, Plan(window=2.0), waiting=1_000)
    assert [plan.window for plan in plans[:3]] == [3.0, 4.0, 4.0]
    assert plans[-1].window == WIDEST


def test_every_answer_is_a_plan_that_may_follow(usual: IntervalMetrics) -> None:
    for start in (Plan(), Plan(depth=7, window=5.25), Plan(depth=12, window=1.5)):
        for stalls in ([0.4] * 30, [0.0] * 30):
            controller, plan = RuleController(), start
            for stall in stalls:
                metrics = replace(usual, plan=plan, seconds_stalled_fetching=stall, waiting_bytes=80_000)
                evidence = Evidence(metrics, Space(start))
                answer = controller.decide(evidence)
                assert evidence.space.allows(plan, answer)
                plan = answer


def test_in_the_papers_mode_it_replaces_while_the_buffer_misses(usual: IntervalMetrics) -> None:
    def replaces(hit: int, moved: int, before: int) -> bool:
        now = replace(usual, rows_requested=1000, rows_hit=hit, rows_moved=moved)
        evidence = Evidence(now, Space(scores=True), recent=(replace(now, rows_moved=before),))
        answer = RuleController().decide(evidence)
        assert answer == now.plan.but(replace=answer.replace)
        return answer.replace

    assert replaces(hit=300, moved=700, before=700)
    assert not replaces(hit=800, moved=200, before=200)
    assert replaces(hit=800, moved=220, before=200)


def test_an_interval_without_time_or_buffer_changes_nothing(usual: IntervalMetrics) -> None:
    controller = RuleController()
    assert controller.decide(Evidence(replace(usual, seconds_wall=0.0))) == Plan()
    assert controller.decide(Evidence(replace(usual, capacity_rows=0, waiting_bytes=10**9))).window == 4.0
