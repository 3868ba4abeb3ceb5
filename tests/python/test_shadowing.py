"""A live run's shadow: what it costs is bounded, what it says is heeded, and its errors cost no training."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rudder import ArraySource, Evidence, Options, Plan, Prefetcher, explain, pull_routes
from rudder.agent.balance import SLEEP, STRETCH
from rudder.agent.guard import BOUND, PATIENCE
from rudder.errors import ConfigError
from rudder.metrics import IntervalMetrics
from rudder.prior import Priors
from rudder.shadow import Shadow
from rudder.shadowing import LiveShadow

ROWS, LOCAL, WANTED = 4000, 500, 400
TABLE = np.arange(ROWS * 4, dtype=np.float32).reshape(ROWS, 4)


class SlowLink(ArraySource):
    """Rows that take time each: fetching is what a step waits for, also on a machine with other work."""

    def pull(self, ids: np.ndarray) -> np.ndarray:
        for _ in range(300 * len(ids)):
            pass
        return super().pull(ids)

    def routes(self, table: int) -> Any:
        return pull_routes(self, table)


def minibatches(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    share = rng.pareto(1.0, ROWS)
    return [rng.choice(ROWS, WANTED, p=share / share.sum()) for _ in range(count)]


def run(out: Path, controller: Any, count: int, **options: Any) -> list[dict[str, Any]]:
    """The decisions of a run, whose rows are checked."""
    settings = Options(
        controller=controller,
        plan=Plan(interval=4, window=4.0),
        prior="none",
        capacity=600,
        metrics_dir=out,
        **{"shadow_share": 1.0, **options},
    )
    with Prefetcher(SlowLink(TABLE, [0, LOCAL, ROWS]), settings) as table:
        for ids in table.iterate(minibatches(count), epochs=1):
            assert np.array_equal(table[ids], TABLE[ids])
    return explain.read(out)


class Saboteur:
    """Answers plans that are bad, each time another one."""

    def decide(self, evidence: Evidence) -> Plan:
        bad = [
            Plan(interval=4, window=0.0, depth=1, buffer_share=10, prior="none"),
            Plan(interval=4, window=0.25, depth=1, buffer_share=20, prior="none"),
        ]
        return bad[evidence.metrics.interval % 2]


def harm(decisions: list[dict[str, Any]]) -> list[bool]:
    """Of each interval: was a plan in force that the shadow calls slower than the default?"""
    default = decisions[0]["before"]
    return [
        each["before"] != default and (each["live_ms"] or 0) > (1 + BOUND) * (each["default_ms"] or 0)
        for each in decisions
    ]


def test_a_hostile_controller_does_harm_for_two_intervals_at_most(tmp_path: Path) -> None:
    guarded = run(tmp_path / "guarded", Saboteur(), 100)
    harmful = harm(guarded)
    assert not any(all(harmful[i : i + PATIENCE + 1]) for i in range(len(harmful) - PATIENCE))
    assert {each["outcome"] for each in guarded} <= {"kept out", "rolled back", "kept", "adopted", "asleep"}
    unguarded = run(tmp_path / "unguarded", Saboteur(), 60, guard=False)
    assert sum(harm(unguarded)) > 2 * PATIENCE


def test_evidence_holds_what_other_plans_would_have_taken(tmp_path: Path) -> None:
    seen: list[Evidence] = []

    class Watches:
        def decide(self, evidence: Evidence) -> Plan:
            seen.append(evidence)
            return evidence.plan

    run(tmp_path, Watches(), 21)
    assert len(seen) == 5
    for evidence in seen:
        assert set(evidence.counterfactuals) == set(evidence.space.candidates(evidence.plan))
        assert all(ms > 0 for ms in evidence.counterfactuals.values())
    assert seen[0].fresh_share is None
    assert [each.prior_age for each in seen] == [1, 2, 3, 4, 5]
    assert [each.previous is None for each in seen] == [True, False, False, False, False]


@pytest.mark.parametrize("waiting_bytes", [8 * WANTED, "1GiB"])
def test_modelled_steps_of_a_busy_link_take_what_they_took(tmp_path: Path, waiting_bytes: int | str) -> None:
    """Fetches never pause here, and blocks may fill little memory or much: the model knows of both."""

    class Link(ArraySource):
        def pull(self, ids: np.ndarray) -> np.ndarray:
            time.sleep(1e-4 * len(ids))
            return super().pull(ids)

        def routes(self, table: int) -> Any:
            return pull_routes(self, table)

    settings = Options(
        controller="shadow",
        plan=Plan(interval=8),
        prior="none",
        capacity=300,
        shadow_share=1.0,
        metrics_dir=tmp_path,
    )
    with Prefetcher(Link(TABLE, [0, LOCAL, ROWS]), settings) as table:
        for ids in table.iterate(minibatches(90), epochs=1, waiting_bytes=waiting_bytes):
            assert np.array_equal(table[ids], TABLE[ids])
    decisions = explain.read(tmp_path)
    # A step as it was without the time that steering took, which has no part in what is modelled.
    steps = [each["milliseconds"] - 125 * each["cost"]["seconds_steering"] for each in decisions]
    ratios = [each["live_ms"] / step for each, step in zip(decisions[1:], steps[1:])]
    assert len(ratios) >= 8  # without the first one, at whose begin the link stood still
    assert 0.6 < np.median(ratios) < 1.67


def test_the_loaders_bound_on_blocks_holds_from_the_first_interval_on() -> None:
    source, options = ArraySource(TABLE, [0, LOCAL, ROWS]), Options(prior="none", shadow_share=1.0)
    moved = {}
    for waiting in (250, 100_000):
        shadow = LiveShadow(source, options, INTERVAL.plan, 600, Priors(source, options))
        for ids in minibatches(80):
            shadow.submitted(ids, 100, 0.0)
        assert shadow.end_interval(replace(INTERVAL, minibatches=40), waiting)
        assert shadow._shadow is not None
        moved[waiting] = shadow._shadow._live.counters()
    # With three minibatches in sight more is fetched than with all of the window.
    assert moved[250]["window_minibatches"] <= 3 < moved[100_000]["window_minibatches"]
    assert moved[250]["rows_moved"] > moved[100_000]["rows_moved"]


INTERVAL = IntervalMetrics(
    tensor="t",
    rank=0,
    interval=0,
    minibatches=4,
    plan=Plan(interval=4, prior="none"),
    row_bytes=16,
    rows_requested=1200,
    rows_moved=600,
    seconds_wall=1.0,
    seconds_fetching=0.5,
)


def live_shadow(monkeypatch: pytest.MonkeyPatch, share: float, took: float) -> LiveShadow:
    """A shadow that takes so many seconds to look, by the clock that it sees."""
    now = [0.0]
    monkeypatch.setattr("rudder.shadowing.time.perf_counter", lambda: now[0])
    catch_up = LiveShadow._catch_up

    def slowly(self: LiveShadow) -> None:
        now[0] += took if self._last is not None else 0.0
        catch_up(self)

    monkeypatch.setattr(LiveShadow, "_catch_up", slowly)
    source, options = ArraySource(TABLE, [0, LOCAL, ROWS]), Options(prior="none", shadow_share=share)
    shadow = LiveShadow(source, options, INTERVAL.plan, 600, Priors(source, options))
    for ids in minibatches(200):
        shadow.submitted(ids, 100, 0.001)
    return shadow


def test_it_looks_as_seldom_as_its_share_of_the_time_demands(monkeypatch: pytest.MonkeyPatch) -> None:
    shadow = live_shadow(monkeypatch, share=0.01, took=0.035)
    looked = [shadow.end_interval(replace(INTERVAL, interval=i), None) for i in range(12)]
    # 0.035 s are saved in four intervals of a second, of which 0.01 each.
    assert [i for i, each in enumerate(looked) if each] == [0, 4, 8]
    assert shadow.steps == 16  # four intervals as one


def test_what_is_asked_for_out_of_turn_is_saved_later(monkeypatch: pytest.MonkeyPatch) -> None:
    shadow = live_shadow(monkeypatch, share=0.01, took=0.009)
    assert shadow.end_interval(INTERVAL, None)
    assert shadow.look()  # nothing new: no time
    assert shadow.end_interval(replace(INTERVAL, interval=1), None)
    assert not shadow.end_interval(replace(INTERVAL, interval=2, seconds_wall=0.5), None)
    assert shadow.look()
    assert shadow.steps == 4
    later = [shadow.end_interval(replace(INTERVAL, interval=3 + i), None) for i in range(3)]
    assert later == [False, True, True]


def test_asleep_it_takes_no_time_and_looks_again_when_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    shadow = live_shadow(monkeypatch, share=1.0, took=0.01)  # 200 minibatches are submitted, four an interval
    assert shadow.end_interval(INTERVAL, None)
    shadow.sleep()
    assert shadow.asleep
    for number in range(1, 40):
        metrics = replace(INTERVAL, interval=number)
        assert not shadow.so_far(metrics, 1 << number)
        assert not shadow.end_interval(metrics, 1 << number)
        assert not shadow.look()
        shadow.applied(INTERVAL.plan, None, 0.0, renewed=False)
        assert shadow._spent == 0
    shadow.wake()
    assert shadow.asleep  # what is sampled ahead it did not see
    for ids in minibatches(20):
        shadow.submitted(ids, 100, 0.001)
    assert not shadow.so_far(replace(INTERVAL, interval=40, minibatches=3), 1 << 20)
    looked = [shadow.end_interval(replace(INTERVAL, interval=40 + i), None) for i in range(15)]
    assert looked == [False] * 10 + [True] * 5
    assert shadow.steps == 4
    assert shadow.live_ms == pytest.approx(shadow.default_ms)


def test_a_run_whose_controller_gains_nothing_goes_on_without_its_shadow_and_with_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Watches:
        def decide(self, evidence: Evidence) -> Plan:
            return evidence.plan

    # However unevenly this machine takes steps of a millisecond.
    monkeypatch.setattr("rudder.agent.balance.CALM", 1000)
    found = run(tmp_path, Watches(), 4 * (STRETCH + SLEEP + STRETCH))
    asleep = [each["outcome"] == "asleep" for each in found]
    first = asleep.index(True)
    awake = asleep.index(False, first)
    assert awake - first == SLEEP
    # It looks until the default plan, which took a moment to come into force, is as fast as ever.
    assert found[first]["live_ms"] is not None
    assert all(each["live_ms"] is None for each in found[first + SLEEP // 2 : awake])
    again = [each for each in found[awake:] if each["counterfactuals"]]
    assert again
    for each in again:
        assert all(0 < ms < 1e4 for ms in each["counterfactuals"].values())


def test_an_error_in_the_shadow_costs_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: Shadow, *_: Any, **__: Any) -> None:
        raise ArithmeticError("the model is wrong")

    for name in ("submitted", "end_interval", "counterfactuals", "applied"):
        guard = name != "applied"  # which is called where a plan comes into force: the guard may let none
        with monkeypatch.context() as patch, caplog.at_level(logging.ERROR, "rudder"):
            caplog.clear()
            patch.setattr(Shadow, name, broken)
            decisions = run(tmp_path / name, Saboteur(), 21, guard=guard)
        said = [record for record in caplog.records if "no longer modelled" in record.message]
        assert len(said) == 1, name
        # Nothing stays in force that nobody can judge.
        changed = sum(each["after"] != decisions[0]["before"] for each in decisions)
        assert changed <= 1 or not guard, name


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_shares_that_cannot_be(share: float) -> None:
    with pytest.raises(ConfigError, match="shadow_share"):
        Options(shadow_share=share)
