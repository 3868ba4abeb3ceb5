"""The shadow's times are those that the run would have had, from a sample, in bounded memory."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from rudder.metrics import IntervalMetrics
from rudder.plan import Plan
from rudder.policies import SCORE, PolicySettings
from rudder.rollout.generate import workload
from rudder.rollout.simulator import Simulator
from rudder.shadow import Shadow
from rudder.shadow import shadow as module
from rudder.shadow.sample import Counts, Numbers
from rudder.shadow.trial import Memory


def test_its_live_time_is_the_runs() -> None:
    simulator = Simulator(workload("memory", 1))
    ratios = []
    while not simulator.done:
        metrics = simulator.step(Plan()).metrics
        assert simulator.shadow is not None
        assert simulator.shadow.live_ms is not None
        ratios.append(simulator.shadow.live_ms * metrics.minibatches / metrics.seconds_wall / 1000)
        assert simulator.shadow.shadow.calibration == pytest.approx(1 / ratios[-1], rel=1e-6)
        assert simulator.shadow.default_ms == pytest.approx(simulator.shadow.live_ms, rel=0.02)
    assert np.median(ratios) == pytest.approx(1.0, abs=0.03)
    assert max(ratios) < 1.15


def test_counterfactuals_rank_plans_as_trying_them_does() -> None:
    simulator = Simulator(workload("memory", 1))
    for _ in range(4):
        evidence = simulator.step(Plan())
    cost = simulator.cost_of(1)
    candidates = simulator.space.candidates(Plan())
    stay = cost(Plan()), evidence.counterfactuals["="]
    for name in ("d+", "d-", "w-", "pn"):
        truth = cost(candidates[name]) / stay[0] - 1
        modelled = evidence.counterfactuals[name] / stay[1] - 1
        assert modelled == pytest.approx(truth, abs=0.06), name


def test_a_slower_link_is_thought_of_and_forgotten() -> None:
    simulator = Simulator(workload("memory", 1))
    for _ in range(3):
        simulator.step(Plan())
    shadow = simulator.shadow
    assert shadow is not None
    plans = {"=": Plan()}
    before = shadow.counterfactuals(plans)
    assert shadow.counterfactuals(plans, slower=3.0)["="] > 1.5 * before["="]
    assert shadow.counterfactuals(plans) == before


def shadow_of(rows: int = 1000, **settings: object) -> Shadow:
    memory = Memory(rows, 100, 1e9)
    return Shadow(Plan(), memory, lambda name: np.ones(1 << 20, dtype=np.float32), **settings)  # type: ignore[arg-type]


def interval(number: int, minibatches: int = 32) -> IntervalMetrics:
    return IntervalMetrics(
        "t", 0, number, minibatches, Plan(), 100, rows_moved=1000, seconds_wall=1.0, seconds_fetching=0.1
    )


def test_local_rows_are_no_part_of_it_and_large_minibatches_lower_the_rate() -> None:
    some, chance = shadow_of(local=(0, 1000)), np.random.default_rng(1)
    for number in range(3):
        for _ in range(34 if number == 0 else 32):
            some.submitted(chance.choice(100_000, 5000, replace=False))
        some.end_interval(interval(number))
    assert some.rate == 2.0**-5  # 5000 x 32 accesses; 6144 are sampled at most
    assert len(some.counterfactuals({"=": Plan(), "d+": Plan(depth=3)})) == 2
    assert some.fresh_share is not None
    assert 0 < some.fresh_share < 0.5


def test_minibatches_that_were_dropped_are_forgotten() -> None:
    some, chance = shadow_of(), np.random.default_rng(1)
    for _ in range(40):
        some.submitted(chance.choice(5000, 50, replace=False))
    some.end_interval(interval(0))
    some.dropped()
    for _ in range(40):
        some.submitted(chance.choice(5000, 50, replace=False))
    some.end_interval(interval(1))
    assert some.live_ms is not None
    assert some.counterfactuals({"=": Plan()})["="] == pytest.approx(some.live_ms)


def test_before_an_interval_ends_replacements_are_judged_by_the_one_before() -> None:
    """The policy replaces in the last minibatch of an interval: nobody who is asked ahead has seen it."""
    some, chance = shadow_of(400, policy=SCORE, settings=PolicySettings(period=32)), np.random.default_rng(1)
    for _ in range(96):
        some.submitted(chance.choice(1000, 300, replace=False))
    plans = {"y": Plan(replace=True), "n": Plan(replace=False)}
    busy = {"seconds_fetching": 0.95, "seconds_stalled_fetching": 0.9}
    found = []
    for number in range(2):
        some.look(replace(interval(number, 31), **busy))  # type: ignore[arg-type]
        found.append(some.counterfactuals(plans))
        some.end_interval(replace(interval(number), **busy))  # type: ignore[arg-type]
    assert found[0]["y"] == found[0]["n"]
    # The first replacement fills the buffer, which has served the second interval since.
    assert found[1]["y"] < 0.95 * found[1]["n"]
    some.dropped()
    for _ in range(40):
        some.submitted(chance.choice(1000, 300, replace=False))
    some.look(replace(interval(2, 31), **busy))  # type: ignore[arg-type]
    again = some.counterfactuals(plans)
    assert again["y"] == again["n"]


def modelled(some: Shadow, number: int) -> dict[str, float | None]:
    waits = {"seconds_fetching": 0.95, "seconds_stalled_fetching": 0.8}
    some.end_interval(replace(interval(number), **waits))  # type: ignore[arg-type]
    tried = some.counterfactuals({"no window": Plan(window=0, depth=1), "half": Plan(buffer_share=50)})
    return {"live": some.live_ms, "default": some.default_ms, **tried}


@pytest.mark.parametrize("ahead", [0, 20, 100])
def test_asleep_it_keeps_nothing_and_woken_it_begins_anew(ahead: int) -> None:
    chance = np.random.default_rng(1)
    minibatches = [chance.choice(5000, 50, replace=False) for _ in range(1000)]
    some, feed = shadow_of(400), iter(minibatches)
    for _ in range(ahead):
        some.submitted(next(feed))

    def train() -> None:
        for _ in range(32):
            some.submitted(next(feed))

    train()
    some.end_interval(interval(0))
    some.sleep()
    for _ in range(10):
        train()
        some.passed(32)
    assert some.resting
    assert (some.live_ms, some.counterfactuals({"=": Plan()})) == (None, {})
    assert (len(some._numbers), some._feed.first) == (0, some._feed.end)
    some.applied(Plan(depth=3))
    some.bound(Memory(400, 100, 5000.0))
    some.wake()
    unseen = -(-ahead // 32)  # intervals of which it did not see every minibatch
    for _ in range(unseen):
        assert some.resting
        train()
        some.passed(32)
    assert not some.resting
    # From here on it is as a shadow that a run has from its beginning, which the same minibatches follow.
    fresh = shadow_of(400)
    fresh.applied(Plan(depth=3))
    fresh.bound(Memory(400, 100, 5000.0))
    begun = 32 * (11 + unseen)
    for ids in minibatches[begun : 32 * (11 + unseen) + ahead]:
        fresh.submitted(ids)
    for number in range(3):
        train()
        for ids in minibatches[begun + ahead + 32 * number : begun + ahead + 32 * (number + 1)]:
            fresh.submitted(ids)
        found, wanted = modelled(some, 20 + number), modelled(fresh, number)
        assert found == pytest.approx(wanted, rel=1e-3)
        assert len(set(wanted.values())) > 2
        assert (some.fresh_share is None) == (number == 0)


def test_what_was_sampled_ahead_may_be_dropped_while_it_sleeps() -> None:
    some, chance = shadow_of(), np.random.default_rng(1)

    def submit(count: int) -> None:
        for _ in range(count):
            some.submitted(chance.choice(5000, 50, replace=False))

    submit(40)
    some.end_interval(interval(0))
    some.sleep()
    submit(10)
    some.dropped()
    some.wake()
    assert not some.resting  # nothing is ahead that was not seen
    submit(40)
    some.end_interval(interval(1))
    assert some.live_ms is not None


def test_it_remembers_no_more_than_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_NUMBERS", 4096)
    some = shadow_of()
    for number in range(40):
        for _ in range(32):
            first = (number * 32 + _) * 100
            some.submitted(np.arange(first, first + 100))
        some.end_interval(interval(number))
        assert some.live_ms is not None
        assert 0 < some.live_ms < 100  # also where it has begun anew, with a lower rate
    assert some.rate < 1
    assert len(some._numbers) <= 4096
    assert some._feed.end - some._feed.first <= 600


def test_numbers_stay_with_their_ids() -> None:
    numbers, chance = Numbers((10, 20)), np.random.default_rng(3)
    seen: dict[int, int] = {}
    for _ in range(50):
        ids = chance.integers(0, 200, 30)
        found, new = numbers.of(ids)
        wanted = sorted({int(i) for i in ids if not 10 <= i < 20})
        assert [int(numbers.ids[each]) for each in found] == wanted
        assert new == len(set(wanted) - set(seen))
        for one, number in zip(wanted, found):
            assert seen.setdefault(one, int(number)) == number
    assert len(numbers) == len(seen)


def test_counts_forget_with_their_half_life() -> None:
    counts = Counts()
    counts.count(np.array([0]), 3)
    for _ in range(32):
        counts.count(np.array([1, 2000]), 2001)
    assert counts.worth(0, 3).tolist() == [1.0, 32.0, 0.0]
    fading = counts.worth(32, 2)
    assert fading[0] == pytest.approx(0.5)
    assert counts.clone().worth(32, 2).tolist() == fading.tolist()


def test_it_imports_without_the_core() -> None:
    modules = "rudder.shadow, rudder.agent.guard, rudder.agent.shadow"
    code = f"import sys; sys.modules['rudder._core'] = None; import {modules}"
    subprocess.run([sys.executable, "-c", code], check=True)
