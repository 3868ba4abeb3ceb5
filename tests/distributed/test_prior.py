"""`rudder prior` as users run it: a process for each partition, and their priors those of one machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rudder

pytest.importorskip("torch")
pytest.importorskip("typer")
dgl = pytest.importorskip("dgl")

from rudder.graphs import generate  # noqa: E402
from rudder.launch.ports import free_port  # noqa: E402
from rudder.partition import partition_graph, read_prior  # noqa: E402

PARTS = 3
ROOT = str(Path(rudder.__file__).resolve().parents[1])
# ssh -o ... HOST COMMAND, run here.
FAKE_SSH = """#!/bin/sh
while [ "$1" = -o ]; do shift 2; done
shift
exec sh -c "$*"
"""


def shop() -> Any:
    """Two node types, three edge types; train nodes of one type."""
    import torch

    users, items = 300, 200
    torch.manual_seed(5)
    buys = torch.randint(users, (2000,)), torch.randint(items, (2000,))
    graph = dgl.heterograph(
        {
            ("user", "buys", "item"): buys,
            ("item", "sold-to", "user"): buys[::-1],
            ("user", "knows", "user"): (torch.randint(users, (900,)), torch.randint(users, (900,))),
        },
        num_nodes_dict={"user": users, "item": items},
    )
    graph.nodes["item"].data["train_mask"] = torch.rand(items) < 0.5
    return graph


@pytest.fixture
def run(launcher: Any) -> Any:
    def start(*args: str) -> tuple[int, str, str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "rudder.cli", "prior", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "MARK": launcher.mark,
                "PYTHONPATH": os.pathsep.join(
                    filter(
                        None, [str(Path(rudder.__file__).resolve().parents[1]), os.environ.get("PYTHONPATH")]
                    )
                ),
            },
        )
        launcher.started.append(process)
        out, errors = process.communicate(timeout=120)
        return process.returncode, out, errors

    return start


def over_ssh(folder: Path) -> list[str]:
    """Options that run a job over an ssh which runs everything here."""
    ssh, addresses = folder / "ssh", folder / "ip_config.txt"
    ssh.write_text(FAKE_SSH)
    ssh.chmod(0o755)
    addresses.write_text("".join(f"127.0.0.{part + 1}\n" for part in range(PARTS)))
    port = free_port("0.0.0.0")
    return [
        *("--ip-config", str(addresses), "--ssh", str(ssh)),
        *("--python", sys.executable, "--master-port", str(port)),
    ]


@pytest.mark.parametrize("kind", ["homogeneous", "heterogeneous"])
def test_equals_what_one_machine_computed(kind: str, run: Any, tmp_path: Path) -> None:
    # The priors that lie there first were computed in one process; test_partition compares those with the
    # formula over the whole graph.
    if kind == "homogeneous":
        graph: Any = generate(1500, 12_000, num_classes=4, feature_dim=2, seed=3)
        fanouts: list[Any] = [3, 5]
        text, where = "3,5", ["--local"]
    else:
        graph, fanouts = shop(), [{"buys": 2, "sold-to": 3, "knows": 0}, 4]
        text, where = json.dumps(fanouts), over_ssh(tmp_path)
    made = partition_graph(
        graph, tmp_path / "parts", name="g", parts=PARTS, fanouts=fanouts, batch_size=30, trainers=2
    )
    files = [tmp_path / "parts" / f"part{part}" / "rudder_prior.npz" for part in range(PARTS)]
    before = [read_prior(path) for path in files]
    for path in files:
        path.unlink()

    settings = ("--fanout", text, "--batch-size", "30", "--trainers", "2")
    code, out, errors = run(made.part_config, *where, *settings, "--json", "-")
    assert code == 0, errors
    assert [report["part"] for report in json.loads(out)] == [0, 1, 2]
    for report, expected in zip(json.loads(out), made.as_json()["parts"]):
        assert report == pytest.approx(expected)
    for path, (expected, info) in zip(files, before):
        found, found_info = read_prior(path)
        assert found_info == info
        assert set(found) == set(expected)
        assert any(values.any() for values in found.values())
        for ntype, values in found.items():
            assert np.array_equal(values, expected[ntype]), ntype


def test_a_partition_that_cannot_be_read_ends_all(run: Any, tmp_path: Path) -> None:
    made = partition_graph(generate(300, 2000, feature_dim=2), tmp_path / "parts", name="g", parts=2)
    (tmp_path / "parts" / "part1" / "graph.dgl").unlink()
    code, out, errors = run(made.part_config, "--local")
    assert code == 1, out
    assert "host1 trainer0" in errors
    assert "graph.dgl" in errors
