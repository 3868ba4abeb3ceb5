"""`rudder demo` end to end: real servers and trainers, both variants, on a small graph."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from rudder import explain, ucx
from rudder.launch.netns import check_possible

pytest.importorskip("torch")
pytest.importorskip("typer")

SMALL = ("--nodes", "4000", "--feature-dim", "16", "--epochs", "2", "--batch-size", "200", "--fanout", "5,5")


def test_both_variants_agree(demo, tmp_path):
    out, json_file = tmp_path / "out", tmp_path / "numbers.json"
    process = demo(*SMALL, "--verify", "--json", str(json_file), "--out", str(out))
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    found = json.loads(json_file.read_text())
    assert (found["graph"], found["hosts"], found["trainers"]) == ("generated", 2, 1)
    assert found["differing_rows"] == 0
    assert found["same_minibatches"]
    assert found["largest_loss_difference"] < 1e-4
    assert abs(found["accuracy"]["stock"] - found["accuracy"]["rudder"]) < 0.02
    stock, rudder = found["stock"], found["rudder"]
    for run in (stock, rudder):
        assert len(run["epoch_seconds"]) == 2
        assert 0 < run["stall_seconds"] < sum(run["epoch_seconds"])
        assert run["bytes_moved"] == run["rows_moved"] * 16 * 4
    assert stock["rows_requested"] == stock["rows_moved"] > 0
    assert stock["hit_rate"] == 0
    # Counted by the script and, independently, by the engine.
    assert stock["rows_requested"] == rudder["rows_requested"] == rudder["rows_requested_of_engine"]
    assert 0 < rudder["rows_moved"] < stock["rows_moved"]
    assert rudder["rows_hit"] + rudder["rows_moved"] + rudder["rows_merged"] == rudder["rows_requested"]
    assert 0 < rudder["hit_rate"] < 1
    assert 0 < found["capacity_rows"] <= 0.25 * max(found["halo_nodes"]) + 1
    # Evaluation is verified, too, but not counted among the rows.
    assert found["verified_rows"] > sum(
        json.loads(path.read_text())["ids_requested"] for path in (out / "rudder").glob("trainer-*.json")
    )
    assert json.loads((out / "demo.json").read_text()) == found
    assert (out / "rudder" / "summary.json").is_file()
    for words in ("stock DistDGL", "with Rudder", "rows moved", "rows that differ"):
        assert words in output


# Intervals of 32 minibatches that each of two trainers ends in these epochs, before the last, partial one.
STEERED = ("--batch-size", "25", "--epochs", "4", "--verify")


def test_a_controller_steers_it_and_is_explained(demo, tmp_path):
    out, json_file = tmp_path / "out", tmp_path / "numbers.json"
    process = demo(*SMALL, *STEERED, "--controller", "shadow", "--json", str(json_file), "--out", str(out))
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    found = json.loads(json_file.read_text())
    assert found["differing_rows"] == 0
    assert found["controller"] == "shadow"
    decisions = found["decisions"]
    assert decisions["made"] == decisions["valid"] > 0
    assert 0 < decisions["seconds_steering"] < decisions["seconds_wall"]
    assert "decisions: made, valid, late" in output
    explained = explain.read(out / "rudder")
    assert {each["rank"] for each in explained} == {0, 1}
    assert len(explained) >= decisions["made"]  # the evaluation's are written, too
    assert explained[0]["live_ms"] > 0
    assert explain.totals(explained)["seconds_steering"] >= decisions["seconds_steering"] - 1e-3


def test_the_agent_steers_it_through_llama_cpp(demo, tmp_path):
    pytest.importorskip("llama_cpp")
    from rudder.agent.worker.settings import PILOT

    if not PILOT.is_file():
        pytest.skip("no model comes with this package")
    json_file = tmp_path / "numbers.json"
    process = demo(*SMALL, *STEERED, "--json", str(json_file), "--out", str(tmp_path / "out"))
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    found = json.loads(json_file.read_text())
    assert (found["controller"], found["why_no_agent"], found["differing_rows"]) == ("agent", None, 0)
    decisions = found["decisions"]
    assert decisions["made"] == decisions["valid"] + decisions["late"] > 0  # whatever came was a plan
    assert decisions["seconds_agent"] > 0
    assert decisions["agent_bytes"] > 1 << 20


def test_a_trainer_that_dies_ends_it(demo, launcher, tmp_path):
    out = tmp_path / "out"
    # Or what a trainer says of itself would be in its log when it has ended, not when it has begun.
    env = {"PYTHONUNBUFFERED": "1"}
    process = demo(*SMALL, "--epochs", "400", "--out", str(out), "--window", "1", env=env)
    _wait_for_trainer(launcher, out, process).kill()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    assert "was killed by SIGKILL" in output
    assert not (out / "rudder.log").exists()  # amid the first run


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--hosts", "1"), "no row is remote"),
        (("--graph", "no-such.npz"), "no such file"),
        (("--fanout", "ten"), "write numbers with commas"),
        (("--epochs", "0"), "must be at least 1"),
        (("--policy", "crystal-ball"), "lookahead"),
        (("--controller", "oracle"), "it steers replays"),
        (("--controller", "best"), "default, rule"),
        (("--transport", "pigeon"), "kvstore"),
        (("--capacity", "plenty"), "not a size"),
        (("--rate", "1gbit", "--transport", "shm"), "cannot reach it"),
    ],
)
def test_what_cannot_work_is_refused_at_once(demo, args, words):
    process = demo(*args)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert words in output


def test_rate_without_tools_is_refused(demo):
    process = demo("--rate", "1gbit", env={"PATH": "/nowhere"})
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "tc (package iproute2)" in output


@pytest.mark.slow
def test_shaped_links(demo, tmp_path):
    try:
        check_possible("1gbit")
    except Exception as error:
        pytest.skip(str(error))
    json_file = tmp_path / "numbers.json"
    process = demo(*SMALL, "--rate", "1gbit", "--verify", "--json", str(json_file))
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    found = json.loads(json_file.read_text())
    assert found["differing_rows"] == 0
    assert found["transports"] == ["kvstore" if ucx.why_not() else "ucx"]


def _wait_for_trainer(launcher, out: Path, demo: subprocess.Popen[str]) -> psutil.Process:
    """A trainer of the first run, once it is connected to the servers."""
    log = out / "stock.log"
    while demo.poll() is None:
        if log.is_file() and "connect to server" in log.read_text():
            for process in launcher.processes():
                with contextlib.suppress(psutil.Error):
                    env = process.environ()
                    if env.get("DGL_ROLE") == "client" and env.get("RUDDER_HOST") == "1":
                        return process
        time.sleep(0.1)  # between two looks at the log; nothing tells of its growth
    raise AssertionError(demo.communicate()[0])
