"""Every decision is written down, and explained: evidence, plan, effect; damage is named, with its place."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rudder import ArraySource, Evidence, Options, Plan, Prefetcher, explain
from rudder.agent import Report
from rudder.cli import build_app
from rudder.decisions import read_decisions
from rudder.errors import ConfigError, FormatError

ROWS = np.arange(4000, dtype=np.float32).reshape(1000, 4)


def run(out: Path, controller: Any, minibatches: int = 21, rank: int = 0) -> dict[str, Any]:
    settings = Options(
        controller=controller, plan=Plan(interval=4), prior="none", metrics_dir=out, rank=rank, guard=False
    )
    rng = np.random.default_rng(0)
    with Prefetcher(ArraySource(ROWS, [0, 500, 1000]), settings) as table:
        for ids in table.iterate([rng.integers(0, 1000, 50) for _ in range(minibatches)], epochs=1):
            assert (table[ids] == ROWS[ids]).all()
    return table.metrics().to_json()


class Deepens:
    """One minibatch deeper after each interval, up to 4; then answers nonsense."""

    def decide(self, evidence: Evidence) -> Plan:
        if evidence.plan.depth == 4:
            raise ValueError("deep enough")
        return evidence.plan.but(depth=evidence.plan.depth + 1)


def test_each_decision_is_explained_with_what_came_of_it(tmp_path: Path) -> None:
    metrics = run(tmp_path, Deepens())
    found = explain.read(tmp_path)
    assert [each["interval"] for each in found] == [0, 1, 2, 3, 4]
    assert [each["outcome"] for each in found] == ["adopted", "adopted", "refused", "refused", "refused"]
    assert all(each["controller"] == "Deepens" for each in found)
    assert [Plan.parse(each["before"]).depth for each in found] == [2, 3, 4, 4, 4]
    assert [Plan.parse(each["after"]).depth for each in found] == [3, 4, 4, 4, 4]
    assert found[0]["answer"] == found[0]["after"]
    assert (found[2]["answer"], found[2]["refused"]) == (None, True)
    assert "deep enough" in found[2]["reason"]
    first, second = found[:2]
    assert first["effect"]["milliseconds_before"] == first["milliseconds"]
    assert first["effect"]["milliseconds_after"] == second["milliseconds"]
    assert found[2]["effect"] is None  # nothing changed
    assert first["prompt"].startswith(first["before"])
    assert f"st:{first['signals']['st']} " in first["prompt"]
    lines = found[2]["prompt"].split("\n")
    assert [line.partition(":")[0] for line in lines[:4]] == [
        "interval 0",
        "interval 1",
        "change d 2 -> 3",
        "change d 3 -> 4",
    ]
    assert f"{first['effect']['milliseconds_before']:.2f} -> " in lines[2]
    assert {each["job"] for each in found} == {first["job"]}
    for fact in (
        "rows of the table: 1000",
        "rows of other hosts: 500",
        "bytes of a row: 16",
        "come by: loopback",
    ):
        assert fact in first["job"]
    assert (metrics["decisions_made"], metrics["decisions_valid"]) == (5, 2)
    assert (metrics["decisions_adopted"], metrics["refused_decisions"]) == (2, 3)
    assert 0 < metrics["seconds_steering"] < metrics["seconds_wall"]
    spent = sum(each["cost"]["seconds_steering"] for each in found)
    assert spent == pytest.approx(metrics["seconds_steering"], abs=1e-4)


def test_the_last_intervals_effect_is_in_the_log_too(tmp_path: Path) -> None:
    run(tmp_path, Deepens(), minibatches=6)
    (only,) = explain.read(tmp_path)
    assert only["effect"]["milliseconds_after"] > 0


class Elsewhere:
    """Thinks in another process, as far as one can tell: every second answer is late."""

    def __init__(self) -> None:
        self.said = Report(state="starting")

    def decide(self, evidence: Evidence) -> Plan:
        number = evidence.metrics.interval
        if number == 0:
            return evidence.plan
        good = number % 2
        self.said = Report(
            valid=self.said.valid + good,
            late=self.said.late + 1 - good,
            answered=number - 1 if good else self.said.answered,
            cpu_seconds=0.25 * number,
            memory_bytes=1 << 20,
            state="ready",
        )
        return evidence.plan.but(depth=3 + number) if good else evidence.plan

    def report(self) -> Report:
        return self.said


def test_what_another_process_decided_and_took_is_counted(tmp_path: Path) -> None:
    metrics = run(tmp_path, Elsewhere())
    assert [metrics[f"decisions_{name}"] for name in ("made", "valid", "late", "adopted")] == [4, 2, 2, 2]
    assert (metrics["seconds_agent"], metrics["agent_bytes"]) == (1.0, 1 << 20)
    found = explain.read(tmp_path)
    assert [each["outcome"] for each in found] == ["none", "adopted", "late", "adopted", "late"]
    assert [each["answers"] for each in found] == [None, 0, None, 2, None]
    assert found[0]["reason"] == "starting"
    assert [each["late"] for each in found] == [False, False, True, False, True]


def test_nothing_is_written_of_the_default(tmp_path: Path) -> None:
    metrics = run(tmp_path, "default")
    assert metrics["decisions_made"] == metrics["seconds_steering"] == 0
    with pytest.raises(ConfigError, match="nothing steered this run"):
        explain.read(tmp_path)


def test_a_tensor_attached_twice_in_a_process_has_both_in_its_log(tmp_path: Path) -> None:
    run(tmp_path, Deepens())
    run(tmp_path, "rule", minibatches=9)
    found = explain.read(tmp_path)
    assert [(each["controller"], each["interval"]) for each in found[4:]] == [
        ("Deepens", 4),
        ("rule", 0),
        ("rule", 1),
    ]
    assert found[4]["effect"] is None


def test_ranks_and_the_last_ones_can_be_picked(tmp_path: Path) -> None:
    for rank in (0, 1):
        run(tmp_path, Deepens(), rank=rank)
    assert [each["rank"] for each in explain.read(tmp_path, last=2)] == [0, 0, 1, 1]
    assert [each["interval"] for each in explain.read(tmp_path, rank=1, last=2)] == [3, 4]
    for asked in ({"rank": 7}, {"tensor": "labels"}):
        with pytest.raises(ConfigError, match="no decision is written"):
            explain.read(tmp_path, **asked)  # type: ignore[arg-type]


def test_as_text_and_as_json(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    run(tmp_path, Deepens())
    asked = CliRunner().invoke(build_app(["explain"]), ["explain", str(tmp_path)])
    assert asked.exit_code == 0, asked.output
    for words in (
        "depth 2 -> 3",
        "evidence",
        "prompt    v1 w=",
        "job       hosts",
        "\n            change d 2 -> 3:",
        "effect",
        "2 adopted, 3 refused",
    ):
        assert words in asked.output
    asked = CliRunner().invoke(build_app(["explain"]), ["explain", str(tmp_path), "--json", "-"])
    found = json.loads(asked.output)
    assert found["decisions"] == explain.read(tmp_path)
    assert (found["totals"]["adopted"], found["totals"]["refused"]) == (2, 3)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run(folder, Deepens())
    (path,) = folder.glob("decisions-*.jsonl")
    return path


def changed(log: Path, folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """A copy of the log whose second line was changed."""
    lines = log.read_text().splitlines()
    values = json.loads(lines[1])
    lines[1] = json.dumps(change(values))
    copy = folder / log.name
    copy.write_text("\n".join(lines) + "\n")
    return copy


def without(*names: str) -> Callable[[dict[str, Any]], Any]:
    return lambda values: {name: value for name, value in values.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: [v], "not a JSON object"),
        (lambda v: {**v, "schema": 2}, "schema 2; this Rudder reads 1; another version"),
        (lambda v: {**v, "kind": "interval"}, "kind is 'interval'"),
        (without("lead"), "lead missing; another version of Rudder wrote this log: read it with that one"),
        (without("job", "prompt", "shares"), "job, prompt, shares missing"),
        (lambda v: {**v, "before": "v1 w=4"}, "must give"),
        (lambda v: {**v, "after": "v9"}, "must start with"),
        (lambda v: {**v, "outcome": "fine"}, "outcome is 'fine'"),
        (lambda v: {**v, "milliseconds": "12"}, "milliseconds is '12'"),
        (lambda v: {**v, "interval": True}, "interval is True"),
        (lambda v: {**v, "effect": {"interval": 0}}, "milliseconds_before of effect is None"),
        (lambda v: {**v, "cost": {"seconds_steering": "much"}}, "seconds_steering of cost is 'much'"),
    ],
)
def test_damage_is_named_with_its_line(
    log: Path, tmp_path: Path, change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    changed(log, tmp_path, change)
    with pytest.raises(FormatError, match=r"line 2: .*" + words.replace("(", r"\(")):
        explain.read(tmp_path)


def test_a_killed_run_leaves_a_log_that_can_be_read(log: Path, tmp_path: Path) -> None:
    copy = tmp_path / log.name
    copy.write_bytes(log.read_bytes()[:-40])
    assert len(read_decisions(copy)) == 5
    assert len(explain.read(tmp_path)) == 5


@given(data=st.data())
def test_any_bytes_are_read_or_refused(log: Path, data: st.DataObject) -> None:
    whole = log.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=8))
    copy = log.with_name("noise.jsonl")
    copy.write_bytes(whole[:at] + noise + whole[at + len(noise) :])
    with contextlib.suppress(FormatError):
        for line in explain.joined(copy):
            explain.as_text(line)
