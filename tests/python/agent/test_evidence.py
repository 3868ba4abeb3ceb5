"""Signals are short integers in a fixed order, ready-made; the prompt holds all of them and nothing else."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from rudder.agent.evidence import COUNTERFACTUALS, SIGNALS, Decision, Evidence
from rudder.agent.job import JobFacts
from rudder.agent.prompt import evidence_line, evidence_text, plan_of, prompt_text, system_text
from rudder.agent.remembered import Remembered
from rudder.agent.space import Space
from rudder.metrics import IntervalMetrics
from rudder.plan import KEYS, Plan

NOW = IntervalMetrics(
    tensor="t",
    rank=0,
    interval=1,
    minibatches=10,
    plan=Plan(depth=3),
    row_bytes=100,
    rows_requested=1000,
    rows_hit=600,
    rows_moved=300,
    seconds_wall=2.0,
    seconds_stalled_fetching=0.5,
    seconds_fetching=0.75,
    capacity_rows=200,
    window_rows=500,
    waiting_bytes=5000,
    times_min=1.25,
)


def test_ratios_and_differences_are_ready_made() -> None:
    before = replace(NOW, seconds_wall=1.0, rows_moved=600, seconds_fetching=1.5)
    evidence = Evidence(
        NOW,
        recent=(before,),
        counterfactuals={"=": 200.0, "df": 190.0, "w+": 201.0},
        history=(Decision(Plan(), 250.0, Plan(depth=3)),),
        fresh_share=0.1,
    )
    found = evidence.signals()
    wanted = {"st": 25, "fe": 50, "rq": 50, "mv": 30, "ht": 60, "wr": 250, "wb": 25, "fr": 10, "xm": 125}
    assert {name: found[name] for name in wanted} == wanted
    changes = {"ms": 100, "mc": -50, "rc": 0, "fc": 0, "ef": -20, "df": -50, "w+": 5, "w-": 0}
    assert {name: found[name] for name in changes} == changes


def test_the_first_interval_of_an_idle_table_is_all_zeros() -> None:
    idle = IntervalMetrics(tensor="t", rank=0, interval=0, minibatches=0, plan=Plan(), row_bytes=4)
    assert set(Evidence(idle).signals().values()) == {0}


finite = st.floats(0, 1e12)


@given(finite, finite, st.integers(0, 2**40), st.integers(0, 2**40), finite)
def test_signals_are_bounded_and_in_order(
    wall: float, fetching: float, rows: int, capacity: int, modelled: float
) -> None:
    metrics = replace(
        NOW, seconds_wall=wall, seconds_fetching=fetching, rows_moved=rows, capacity_rows=capacity
    )
    found = Evidence(metrics, recent=(NOW,), counterfactuals={"=": modelled, "b": 1.0}).signals()
    assert list(found) == [*SIGNALS, *COUNTERFACTUALS]
    assert all(isinstance(value, int) and -999 <= value <= 999 for value in found.values())


def test_the_line_holds_the_plan_and_every_signal() -> None:
    evidence = Evidence(NOW)
    line = evidence_text(evidence)
    assert plan_of(line) == NOW.plan
    numbers = dict(re.findall(r"(\S+):(-?\d+)", line.partition(" | ")[2]))
    assert {name: int(value) for name, value in numbers.items()} == evidence.signals()


def test_the_system_text_explains_every_signal_and_knob() -> None:
    text = system_text(Space())
    for name in (*SIGNALS, *COUNTERFACTUALS, *KEYS):
        assert re.search(rf"^{re.escape(name)}: \S", text, re.MULTILINE), name
    assert str(Plan()) in text


def test_the_system_text_tells_what_is_known_of_the_job_and_nothing_else() -> None:
    facts = JobFacts(trainers=4, row_bytes=512, capacity_rows=1000, fanouts=(10, 25), transports=("ucx",))
    text = system_text(Space(), facts.text())
    for line in (
        "trainers: 4",
        "bytes of a row: 512",
        "rows that this trainer's memory holds: 1000",
        "bytes of this memory: 512000",
        "neighbours of each hop: 10, 25",
        "rows come by: ucx",
    ):
        assert f"\n{line}\n" in text
    assert "nodes of the graph" not in text
    assert "The job" not in system_text(Space(), JobFacts().text())


def test_a_prompt_tells_the_trend_and_what_the_last_plans_brought() -> None:
    remembered = Remembered()
    for interval, (plan, wall) in enumerate([(Plan(), 2.0), (Plan(depth=3), 1.5), (Plan(depth=3), 1.0)]):
        if interval:
            remembered.decided(plan)
        remembered.ended(replace(NOW, interval=interval, plan=plan, seconds_wall=wall))
    remembered.decided(Plan(depth=3, window=6))
    now = remembered.evidence(replace(NOW, interval=3, plan=Plan(depth=3, window=6)), Space())
    assert prompt_text(now).split("\n") == [
        "interval 0: 200.00 ms a step, 25% of it waiting, 30 of 100 remote rows moved a step",
        "interval 1: 150.00 ms a step, 33% of it waiting, 30 of 100 remote rows moved a step",
        "interval 2: 100.00 ms a step, 50% of it waiting, 30 of 100 remote rows moved a step",
        "change d 2 -> 3: 200.00 -> 150.00 ms a step (-25%)",
        "change w 4 -> 6: not measured yet",
        evidence_text(now),
    ]
    assert evidence_line(prompt_text(now)) == evidence_text(now)
    assert plan_of(prompt_text(now)) == Plan(depth=3, window=6)


def test_memory_that_was_traded_is_no_change_that_a_model_reads_of() -> None:
    remembered = Remembered()
    remembered.ended(NOW)
    remembered.decided(NOW.plan.but(share=125))
    assert "change" not in prompt_text(remembered.evidence(NOW, Space()))
