"""A controller that costs more than it gains sleeps, until the work changes or time has passed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rudder.agent.balance import CALM, LONGEST_SLEEP, SLEEP, STRETCH, Balance, BusyCores
from rudder.metrics import IntervalMetrics


def fall_asleep(balance: Balance, usual: IntervalMetrics) -> None:
    for _ in range(STRETCH):
        assert not balance.asleep
        balance.add(usual, gained=0.001, spent=0.002)
    assert balance.asleep


def test_the_reason_says_what_it_gained_and_cost(usual: IntervalMetrics) -> None:
    balance = Balance()
    said = [balance.add(usual, gained=0.001, spent=0.002) for _ in range(STRETCH)]
    assert said[:-1] == [None] * (STRETCH - 1)
    assert "gained 0.016 s" in str(said[-1])
    assert "cost 0.032 s" in str(said[-1])


def test_a_gain_above_the_cost_keeps_it_awake(usual: IntervalMetrics) -> None:
    balance = Balance()
    for interval in range(4 * STRETCH):
        balance.add(usual, gained=0.02 if interval % 2 else -0.01, spent=0.004)
    assert not balance.asleep
    assert balance.gained == pytest.approx(4 * STRETCH * 0.005)


def test_what_nothing_is_modelled_of_is_not_judged(usual: IntervalMetrics) -> None:
    balance = Balance()
    for _ in range(4 * STRETCH):
        balance.add(usual, gained=None, spent=1.0)
    assert not balance.asleep


def test_intervals_that_were_modelled_as_one_count_as_many(usual: IntervalMetrics) -> None:
    balance = Balance()
    for interval in range(1, STRETCH):
        assert balance.add(usual, gained=None if interval % 4 else 0.001, spent=0.002) is None
    assert "in 16 intervals it gained 0.004 s" in str(balance.add(usual, gained=0.001, spent=0.002))


def test_it_wakes_by_itself_and_sleeps_longer_each_time(usual: IntervalMetrics) -> None:
    balance = Balance()
    for wanted in (*(SLEEP * 2**times for times in range(6)), LONGEST_SLEEP):
        assert wanted <= LONGEST_SLEEP
        fall_asleep(balance, usual)
        slept = 0
        while balance.asleep:
            balance.add(usual, gained=None, spent=0.0)
            slept += 1
        assert slept == wanted


@pytest.mark.parametrize(
    "change", [{"rows_requested": 2000}, {"rows_moved": 700}, {"seconds_wall": 0.7}, {"minibatches": 64}]
)
def test_other_work_wakes_it(usual: IntervalMetrics, change: dict[str, float]) -> None:
    balance = Balance()
    fall_asleep(balance, usual)
    changed = replace(usual, **change)  # type: ignore[arg-type]
    for _ in range(10):
        balance.add(changed, gained=None, spent=0.0)  # one strange interval is noise
        balance.add(usual, gained=None, spent=0.0)
    assert balance.asleep
    for _ in range(CALM):
        assert balance.asleep
        balance.add(changed, gained=None, spent=0.0)
    assert not balance.asleep


def test_busy_cores_are_those_that_were_not_idle(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 0 100 700 100 0 0 0 0 0\n")
    cores = BusyCores(stat)
    stat.write_text("cpu  160 0 115 720 105 0 0 0 0 0\n")
    assert cores.since_last() == 0.75
    stat.unlink()
    assert cores.since_last() == 1.0  # not known: charge all of it
    assert BusyCores().since_last() <= 1.0
