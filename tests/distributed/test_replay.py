"""Recorded jobs, real servers and trainers, replay to the rows that they moved."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rudder import _core
from rudder.replay import Request, find_traces, load_case, replay_files

pytest.importorskip("torch")
pytest.importorskip("typer")

SMALL = ("--nodes", "4000", "--feature-dim", "16", "--epochs", "2", "--batch-size", "200", "--fanout", "5,5")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Partitions are made once for all policies."""
    return tmp_path_factory.mktemp("cache")


# Every policy: below, in one job.
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


# Every policy with the settings that it has by default, and whatever else can be told to one.
VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {"policy": name} for name in _core.policy_names()},
    "often": {"policy": "score", "policy_settings": {"period": 4, "alpha": 0.2}},
    "on-demand": {"policy": "score", "policy_settings": {"period": 0, "alpha": 0.1}},
    "filled": {"policy": "score", "policy_settings": {"period": 8, "prefill": True}},
    "soon": {"policy": "static-frequency", "policy_settings": {"observe": 2}},
    "full": {"policy": "static-vip", "policy_settings": {"prefill": True}},
    "counting": {"policy": "lookahead", "prior": "frequency"},
    "recent": {"policy": "lookahead", "prior": "recency"},
}


@pytest.fixture(scope="module")
def small_parts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Partition file of a graph of 1500 nodes in two parts, with VIP beside them."""
    from rudder.graphs import generate
    from rudder.partition import partition_graph

    folder = tmp_path_factory.mktemp("small") / "parts"
    graph = generate(1500, 9000, feature_dim=4, seed=1)
    report = partition_graph(graph, folder, name="g", parts=2, fanouts=[4, 4], batch_size=24)
    return report.part_config


def test_every_policy_in_one_job_replays_to_its_rows(
    launcher: Any, small_parts: str, workers: Path, tmp_path: Path
) -> None:
    """Epochs, an epoch that is left early, and a change of plan; twelve policies and more at once."""
    code, output = launcher.run(
        *("--local", "2", "--part-config", small_parts),
        *("--", str(workers / "policies.py"), str(tmp_path), json.dumps(VARIANTS)),
    )
    assert code == 0, output
    reports = {
        each["rank"]: each["found"]
        for each in (json.loads(text) for text in re.findall(r"REPORT (\{.*\})", output))
    }
    assert set(reports) == {0, 1}, output
    assert all(load_case(path).halo is not None for path in find_traces([tmp_path]))
    for name, options in VARIANTS.items():
        outcomes = replay_files(find_traces([tmp_path / name]), Request(), jobs=1)
        assert [(each.live, each.policy) for each in outcomes] == [(True, options["policy"])] * 2
        for rank, outcome in enumerate(outcomes):
            assert outcome.trace == f"rank-{rank}.features"
            replayed = {key: getattr(outcome, key) for key in reports[rank][name]}
            assert replayed == reports[rank][name], name
    # Settings made a difference. Shuffling may give two of them the same number on one rank, not on both.
    rows = {name: tuple(reports[rank][name]["rows_moved"] for rank in (0, 1)) for name in VARIANTS}
    assert len({rows[f"static-{prior}"] for prior in ("vip", "degree", "frequency")}) == 3
    assert len({rows[name] for name in ("score", "often", "on-demand", "filled")}) == 4
    assert rows["soon"] != rows["static-frequency"]
    assert len({rows["lookahead"], rows["counting"], rows["recent"]}) == 3
    assert sum(rows["lookahead"]) < min(sum(rows["none"]), sum(rows["lru"]))
    for name in ("often", "on-demand", "filled", "full"):
        assert all(reports[rank][name]["replacement_rows"] for rank in (0, 1)), name
