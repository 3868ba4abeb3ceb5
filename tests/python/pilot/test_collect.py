"""Decisions of real runs are labelled by what the shadow says of the interval that followed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rudder.agent.evidence import COUNTERFACTUALS, SIGNALS
from rudder.errors import ConfigError
from rudder.metrics import SCHEMA
from rudder.pilot.collect import collect
from rudder.plan import Plan

PLAN = Plan(depth=2)
NUMBERS = " ".join(f"{key}:0" for key in (*SIGNALS, *COUNTERFACTUALS))


def line(interval: int, times: dict[str, float], before: Plan = PLAN, after: Plan = PLAN) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "kind": "decision",
        "tensor": "feat",
        "rank": 0,
        "controller": "default",
        "interval": interval,
        "minibatches": 32,
        "lead": 0,
        "job": "",
        "shares": None,
        "milliseconds": 10.0,
        "signals": {},
        "prompt": f"interval 3: 12 ms a step\n{before} | {NUMBERS}",
        "counterfactuals": times,
        "default_ms": None,
        "live_ms": None,
        "before": str(before),
        "answer": str(after),
        "answers": interval,
        "after": str(after),
        "outcome": "kept" if before == after else "adopted",
        "late": False,
        "refused": False,
        "rolled_back": False,
        "reason": "",
        "effect": None,
        "cost": {},
    }


def run_of(folder: Path, *lines: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / "decisions-0.feat.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    return folder


def test_the_next_interval_says_what_would_have_been_best(tmp_path: Path) -> None:
    run = run_of(
        tmp_path / "run",
        line(0, {}),
        line(1, {"=": 10.0, "d+": 9.0, "w-": 9.9, "m-": 10.5}),
        line(2, {"=": 10.0, "d+": 9.99}),
    )
    first, second = collect([run])
    assert Plan.parse(first.answer) == PLAN.but(depth=3, window=3)
    assert first.line == f"{PLAN} | {NUMBERS}"
    assert (first.best, first.gain) == ("d+", pytest.approx(0.1))
    assert (second.best, Plan.parse(second.answer)) == ("=", PLAN)


def test_decisions_that_changed_the_plan_or_have_no_shadow_are_left_out(tmp_path: Path) -> None:
    deeper = PLAN.but(depth=3)
    run = run_of(
        tmp_path / "run",
        line(0, {}, PLAN, deeper),
        line(1, {"=": 10.0, "d+": 9.0}, deeper),
        line(2, {}, deeper),
        line(4, {"=": 10.0, "d+": 9.0}, deeper),
    )
    assert collect([run]) == []


def test_yes_and_no_are_labels_in_the_papers_mode(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", line(0, {}), line(1, {"=": 10.0, "y": 10.0, "n": 8.0}))
    (only,) = collect([run])
    assert (only.best, Plan.parse(only.answer)) == ("n", PLAN.but(replace=False))


def test_a_folder_without_decisions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="decisions"):
        collect([tmp_path])
