"""Where memory goes, by what the trainers of a host have published."""

from __future__ import annotations

from typing import Any

import pytest

from rudder import Evidence, IntervalMetrics, Plan
from rudder.agent import Space
from rudder.agent.prompt import evidence_text
from rudder.agent.trade import Member, Need, free_rows, need_of, trade, without_share


def member(wait: float | None, gain: float | None = 0.0, loss: float | None = 0.0, **values: Any) -> Member:
    """With 1000 rows of its own, of which it holds all."""
    need = None if wait is None else Need(100.0, wait, gain, loss)
    found: dict[str, Any] = {"own": 1000, "holds": 1000, **values}
    return Member(**{"wants": found["holds"], **found}, need=need)


def shares(members: dict[int, Member]) -> list[int]:
    """What each trainer would have next."""
    return [trade(rank, each.share, members)[0] for rank, each in members.items()]


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([member(30, 10), member(2, 0, 1)], [125, 75]),
        ([member(2, 0, 1), member(30, 10)], [75, 125]),
        ([member(30, 10), member(5, 0, 1), member(2, 0, 1)], [125, 100, 75]),
        # Not worth it, or not known.
        ([member(30, 0.9), member(2)], [100, 100]),
        ([member(None), member(2)], [100, 100]),
        ([member(30, 10), member(None)], [125, 100]),
        # The other one would then wait longer, or is at the end of its ladder, or has just taken back.
        ([member(30, 10), member(15, 0, 6)], [125, 100]),
        ([member(30, 10), member(15, 0, 5)], [125, 75]),
        ([member(30, 10), member(2, 0, None, holds=500)], [125, 50]),
        ([member(30, 10), member(2, 0, 1, rests=3)], [125, 100]),
        # One gift at a time: on its way, or there.
        ([member(30, 10), member(2, 0, 1), member(None, wants=750)], [125, 100, 100]),
        ([member(30, 10), member(2, 0, 1), member(None, holds=750)], [125, 100, 75]),
        # Nobody gives to who is as large as may be.
        ([member(30, None, holds=1500), member(2, 0, 1, holds=500)], [150, 50]),
        # Own memory comes back: claimed, and where nobody wants it.
        ([member(None, holds=1250), member(30, 10, holds=750, wants=1000)], [100, 100]),
        ([member(5, holds=1000), member(2, holds=750)], [100, 100]),
        # The one that is gone neither takes nor gives.
        ([member(30, 10, live=False), member(2, 0, 1)], [100, 100]),
    ],
)
def test_memory_flows_to_the_trainer_that_waits_longest(members: list[Member], expected: list[int]) -> None:
    assert shares(dict(enumerate(members))) == expected


def test_of_those_that_hold_more_than_their_own_the_least_pressed_returns_it() -> None:
    members = dict(
        enumerate([member(9, holds=1250), member(3, holds=1250), member(30, 10, holds=500, wants=750)])
    )
    assert shares(members) == [125, 100, 75]
    assert free_rows(members) == 0


def test_controllers_of_a_name_see_the_line_of_a_run_without_shares() -> None:
    space, times = Space(shares=True), {"=": 10.0, "w+": 9.0, "df": 10.0}
    metrics = IntervalMetrics(
        "x", 0, 3, 32, Plan(share=75), 4, seconds_wall=1.0, seconds_stalled_fetching=0.16
    )
    alone = IntervalMetrics("x", 0, 3, 32, Plan(), 4, seconds_wall=1.0, seconds_stalled_fetching=0.16)
    shared = Evidence(metrics, space, counterfactuals={**times, "s+": 8.0, "s-": 13.0})
    plain = Evidence(alone, Space(), counterfactuals=times)
    assert without_share(shared) == plain
    assert evidence_text(without_share(shared)) == evidence_text(plain)
    assert set(space.candidates(Plan(share=75))) - set(Space().candidates(Plan())) == {"s+", "s-"}
    assert space.candidates(Plan(share=75))["df"] == Plan(share=75)
    assert need_of(shared) == Need(10.0, 5.0, 2.0, 3.0)
    assert need_of(plain) == Need(10.0, 5.0, None, None)
