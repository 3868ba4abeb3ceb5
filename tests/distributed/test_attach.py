"""attach and prefetch in real DistDGL jobs: bit-equal rows, whatever the trainers do."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

import rudder

TWO = ("--local", "2", "--part-config")
torch = pytest.importorskip("torch")
pytest.importorskip("rudder._core")


@pytest.fixture(scope="session")
def zoo_parts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Partition file of users and items in two parts, with a tensor of each dtype, and edge features."""
    dgl = pytest.importorskip("dgl")
    folder = tmp_path_factory.mktemp("zoo")
    torch.manual_seed(0)
    ends = (torch.randint(0, 200, (1500,)), torch.randint(0, 120, (1500,)))
    graph = dgl.heterograph(
        {("user", "rates", "item"): ends, ("item", "rated", "user"): ends[::-1]}, {"user": 200, "item": 120}
    )
    # DGL 2.1's servers know no bfloat16; the standalone test has it.
    for name in ("float32", "float16", "int8", "bool", "int64", "float64"):
        graph.nodes["user"].data[f"x_{name}"] = (torch.randn(200, 2, 3) * 10).to(getattr(torch, name))
        graph.nodes["item"].data[f"y_{name}"] = (torch.randn(120) * 10).to(getattr(torch, name))
    graph.edges["rates"].data["w"] = torch.randn(1500, 5)
    dgl.distributed.partition_graph(graph, "zoo", 2, str(folder), part_method="random")
    return str(folder / "zoo.json")


def reports(output: str) -> list[dict[str, Any]]:
    """What the trainers reported, in the order of their ranks."""
    found = [json.loads(text) for text in re.findall(r"REPORT (\{.*\})", output)]
    assert len(found) == 2, output
    return sorted(found, key=lambda report: int(report["rank"]))


@pytest.mark.parametrize("transport", ["shm", "kvstore", None])
def test_training_gets_the_stock_rows(
    launcher: Any, ring_parts: str, workers: Path, tmp_path: Path, transport: str | None
) -> None:
    options = json.dumps({"capacity": 0.5, "verify": True, "transport": transport, "prior": "degree"})
    out = tmp_path / "run"
    code, output = launcher.run(
        *(*TWO, ring_parts, "--out", str(out), "--", str(workers / "attach.py"), "train", options)
    )
    assert code == 0, output
    for report in reports(output):
        assert report["routes"] == [transport or "shm"]
        assert report["differing_rows"] == 0
        assert report["verified_rows"] > 0
        assert 0 < report["rows_moved"] < report["rows_requested"]
    summary = json.loads(next(out.rglob("summary.json")).read_text())
    assert summary["state"] == "finished"
    assert len(summary["ranks"]) == 2
    assert summary["total"]["rows_moved"] >= sum(report["rows_moved"] for report in reports(output))


def test_sampler_processes_and_backup_servers(launcher: Any, ring_parts: str, workers: Path) -> None:
    code, output = launcher.run(
        *(*TWO, ring_parts, "--samplers", "1", "--servers", "2"),
        *("--", str(workers / "attach.py"), "train", json.dumps({"capacity": 0.5, "transport": "kvstore"})),
    )
    assert code == 0, output
    assert all(report["rows_moved"] > 0 for report in reports(output))


@pytest.mark.parametrize("transport", ["shm", "kvstore"])
def test_node_types_dtypes_and_edge_features(
    launcher: Any, zoo_parts: str, workers: Path, transport: str
) -> None:
    options = json.dumps({"capacity": 0.3, "transport": transport})
    code, output = launcher.run(*TWO, zoo_parts, "--", str(workers / "attach.py"), "hetero", options)
    assert code == 0, output
    assert all(report["rows_moved"] > 0 for report in reports(output))


@pytest.mark.parametrize("transport", ["shm", "kvstore"])
def test_writes_are_seen(launcher: Any, ring_parts: str, workers: Path, transport: str) -> None:
    options = json.dumps({"transport": transport})
    code, output = launcher.run(
        *(*TWO, ring_parts, "--servers", "2", "--", str(workers / "attach.py"), "write", options)
    )
    assert code == 0, output
    assert len(reports(output)) == 2


def test_a_transport_that_cannot_run_is_refused(launcher: Any, ring_parts: str, workers: Path) -> None:
    code, output = launcher.run(*TWO, ring_parts, "--", str(workers / "attach.py"), "forced")
    assert code == 0, output
    assert output.count("refused") == 2


@pytest.mark.parametrize(
    ("end", "code", "words"),
    [
        ("raise", 1, "ValueError: the trainer's own words"),
        ("killed", 128 + signal.SIGKILL, "was killed by SIGKILL"),
    ],
)
def test_a_trainer_dies_in_mid_epoch(
    launcher: Any, ring_parts: str, workers: Path, tmp_path: Path, end: str, code: int, words: str
) -> None:
    got, output = launcher.run(
        *(*TWO, ring_parts, "--out", str(tmp_path / "run")),
        *("--", str(workers / "attach.py"), "dies", json.dumps({"end": end})),
    )
    assert got == code, output
    assert words in output
    summary = json.loads(next((tmp_path / "run").rglob("summary.json")).read_text())
    assert summary["state"] in ("failed", "running")


def test_ctrl_c_in_mid_epoch(launcher: Any, ring_parts: str, workers: Path) -> None:
    process = launcher.start(
        *TWO, ring_parts, "--", str(workers / "attach.py"), "dies", json.dumps({"end": "wait"})
    )
    launcher.read_until(process, "in mid-epoch", times=2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0


def test_public_names_exist() -> None:
    for name in rudder.__all__:
        assert getattr(rudder, name) is not None
