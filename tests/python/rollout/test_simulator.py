"""A simulated run goes as the engine goes, tells what a live run would tell, and can be tried ahead."""

from __future__ import annotations

import numpy as np
import pytest

from rudder import _core
from rudder.plan import Plan
from rudder.rollout.generate import workload
from rudder.rollout.simulator import Simulator
from rudder.rollout.workload import Workload


@pytest.fixture(scope="module")
def phases() -> Workload:
    return workload("phases", 3)


@pytest.fixture(scope="module")
def memory() -> Workload:
    return workload("memory", 1)


def run(some: Workload, **settings: object) -> Simulator:
    simulator = Simulator(some, **settings)
    while not simulator.done:
        simulator.step(Plan())
    return simulator


def test_intervals_add_up_to_the_workload(phases: Workload) -> None:
    simulator = Simulator(phases, shadow=False)
    requested = wall = steps = 0.0
    while not simulator.done:
        metrics = simulator.step(Plan()).metrics
        requested += metrics.rows_requested
        wall += metrics.seconds_wall
        steps += metrics.minibatches
        assert metrics.rows_hit + metrics.rows_merged + metrics.rows_moved == metrics.rows_requested
        assert 0 <= metrics.seconds_stalled <= metrics.seconds_wall
        assert metrics.seconds_training > 0
        assert metrics.cached_rows <= metrics.capacity_rows
    assert steps == len(phases)
    assert wall * 1000 == pytest.approx(simulator.milliseconds)
    # What was decided on ahead is counted when it was decided, as live.
    assert requested == pytest.approx(len(phases.ids), rel=0.02)


def test_with_room_for_the_whole_window_it_moves_the_rows_of_a_replay() -> None:
    some = workload("steady", 1)
    simulator = Simulator(some, Plan(depth=1), shadow=False)
    moved = 0
    while not simulator.done:
        moved += simulator.step(Plan(depth=1)).metrics.rows_moved
    answer = _core.replay(
        some.ids,
        some.offsets,
        "lookahead",
        int(some.memory_rows[0]),
        prior=some.vip_at(0),
        window_rows=4 * int(some.memory_rows[0]),
        depth=1,
    )
    assert answer["rows_moved"] <= moved * 1.001  # a window that fills late can only move more
    assert moved <= answer["rows_moved"] * 1.25


def test_cost_is_what_then_happens_and_moves_nothing(memory: Workload) -> None:
    simulator = Simulator(memory, shadow=False)
    for _ in range(4):
        simulator.step(Plan())
    cost = simulator.cost_of(1)
    deeper, none = Plan(depth=4), Plan(prior="none")
    first = cost(deeper), cost(none)
    assert cost(deeper) == first[0]
    before = simulator.milliseconds
    simulator.step(deeper)
    assert (simulator.milliseconds - before) / Plan().interval == pytest.approx(first[0])


def test_a_changed_memory_is_the_next_intervals(memory: Workload) -> None:
    simulator = Simulator(memory, shadow=False)
    while not simulator.done:
        at = simulator.next
        assert simulator.step(Plan()).metrics.capacity_rows == memory.memory_rows[at]


def test_a_fresh_prior_moves_fewer_rows_after_a_change(phases: Workload) -> None:
    # With no window the prior decides alone.
    plan = Plan(window=0, depth=1)
    stale, fresh = Simulator(phases, plan, shadow=False), Simulator(phases, plan, shadow=False)
    moved = {False: 0, True: 0}
    while not stale.done:
        due = phases.vip_at(stale.next) is not phases.vip_at(max(0, stale.next - plan.interval))
        for simulator, rebuild in ((stale, False), (fresh, True)):
            metrics = simulator.step(plan.but(rebuild=rebuild and due)).metrics
            moved[rebuild] += metrics.rows_moved
    assert moved[True] < 0.97 * moved[False]


def test_computing_a_prior_takes_its_time() -> None:
    some = workload("steady", 1)  # bound by computing: nothing makes up for a pause
    one, other = Simulator(some, shadow=False), Simulator(some, shadow=False)
    for simulator in (one, other):
        simulator.step(Plan())
    before = one.step(Plan()).metrics
    after = other.step(Plan(rebuild=True)).metrics
    assert after.seconds_wall - before.seconds_wall == pytest.approx(some.rebuild_s, rel=0.1)


def test_a_sample_of_the_rows_takes_about_the_time_of_all(memory: Workload) -> None:
    whole, half = run(memory, shadow=False), run(memory, shadow=False, halvings=1)
    assert half.milliseconds == pytest.approx(whole.milliseconds, rel=0.1)


def test_evidence_is_what_a_live_run_would_have(memory: Workload) -> None:
    simulator = Simulator(memory)
    for number in range(6):
        evidence = simulator.step(Plan())
        assert evidence.metrics.interval == number
        assert set(evidence.counterfactuals) == set(simulator.space.candidates(Plan()))
        assert all(-999 <= value <= 999 for value in evidence.signals().values())
    assert evidence.previous is not None
    assert evidence.prior_age == 6
    simulator.step(Plan(depth=4))
    changed = simulator.step(Plan(depth=4))
    assert [decision.plan for decision in changed.history] == [Plan()]


def test_the_same_workload_gives_the_same_run(memory: Workload) -> None:
    one, other = run(memory), run(memory)
    assert one.milliseconds == other.milliseconds
    assert one.evidence is not None
    assert other.evidence is not None
    assert np.allclose(list(one.evidence.signals().values()), list(other.evidence.signals().values()))


def test_in_the_papers_mode_evidence_says_what_yes_and_no_would_have_moved() -> None:
    simulator = Simulator(workload("phases", 1), Plan(prior="degree"), policy="score")
    assert simulator.space.scores
    assert simulator.shadow is None
    replaced = []
    for answer in (True, True, False, False):
        evidence = simulator.step(Plan(prior="degree", replace=answer))
        times = evidence.counterfactuals
        assert times["y" if answer else "n"] == times["="] == pytest.approx(evidence.milliseconds)
        replaced.append(evidence.metrics.rows_replaced)
    assert times["y"] != times["n"]
    assert replaced[0] > 0 == replaced[-1]
    cost = simulator.cost_of(1)
    expected = cost(Plan(prior="degree", replace=True))
    assert simulator.step(Plan(prior="degree", replace=True)).milliseconds == pytest.approx(expected)
