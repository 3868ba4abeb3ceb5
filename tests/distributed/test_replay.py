"""A recorded demo, real servers and trainers, replays to the rows that its report names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rudder.replay import Request, find_traces, replay_files

pytest.importorskip("torch")
pytest.importorskip("typer")

SMALL = ("--nodes", "4000", "--feature-dim", "16", "--epochs", "2", "--batch-size", "200", "--fanout", "5,5")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Partitions are made once for all policies."""
    return tmp_path_factory.mktemp("cache")


# With levels of the prior, and with its worth; tests/python/cli/test_replay.py has every policy, without DGL.
@pytest.mark.parametrize("policy", ["lookahead", "static-vip"])
def test_a_recorded_demo_replays_to_its_rows(policy: str, launcher, cache: Path, tmp_path: Path) -> None:
    record, numbers = tmp_path / "record", tmp_path / "numbers.json"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "rudder.cli", "demo", *SMALL, "--policy", policy),
            *("--record", str(record), "--json", str(numbers)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            "MARK": launcher.mark,
            "RUDDER_CACHE": str(cache),
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")])
            ),
        },
    )
    launcher.started.append(process)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    live = json.loads(numbers.read_text())["rudder"]

    outcomes = replay_files(find_traces([record]), Request(), jobs=1)
    assert len(outcomes) == 2  # a host of one trainer each
    assert all(outcome.live and outcome.policy == policy for outcome in outcomes)
    assert sum(outcome.rows_moved for outcome in outcomes) == live["rows_moved"]
    assert sum(outcome.rows_requested for outcome in outcomes) == live["rows_requested"]
