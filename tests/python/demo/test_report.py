"""What the demonstration tells, from what trainers found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rudder.demo import report
from rudder.demo.job import Run
from rudder.demo.parts import Parts
from rudder.demo.settings import DemoSettings

STEERED = {
    "decisions_made": 9,
    "decisions_valid": 8,
    "decisions_late": 1,
    "decisions_adopted": 3,
    "decisions_rolled_back": 2,
    "refused_decisions": 0,
    "seconds_steering": 0.01,
    "seconds_agent": 0.25,
    "seconds_gained": 0.5,
    "agent_bytes": 46 << 20,
}


def trainer(rank: int, *, rudder: bool, differing: int = 0) -> dict:
    found = {
        "epoch_seconds": [2.0 + rank, 1.0],
        "losses": [2.0, 1.0 + 0.5 * rank],
        "seconds_attaching": 0.25 if rudder else 0.0,
        "seconds_sampling": 0.5,
        "seconds_rows": 0.25,
        "seconds_labels": 0.0,
        "row_bytes": 512,
        "rows_requested": 1000,
        "rows_pulled": 1000,
        "ids_requested": 3000,
        "minibatches": 10,
        "fingerprint": 7 + rank,
        "correct": 30 + rank,
        "tested": 40,
    }
    if rudder:
        metrics = {
            "rows_requested": 1000,
            "rows_hit": 600,
            "rows_merged": 50,
            "rows_moved": 350,
            "bytes_moved": 350 * 512,
            "rows_read_unplanned": 0,
            "capacity_rows": 100 + rank,
            "verified_rows": 3000,
            "differing_rows": differing,
            "staging_bytes_peak": 4096,
            "plan": "v1",
            "seconds_wall": 4.0,
            **STEERED,
        }
        found["rudder"] = metrics
        found["rudder_with_evaluation"] = {**metrics, "rows_requested": 1100, "verified_rows": 3300}
        found["routes"] = [{"transport": ""}, {"transport": "shm"}]
    return found


def runs(differing: int = 0) -> tuple[Run, Run]:
    stock = Run("stock", [trainer(rank, rudder=False) for rank in range(2)], 9.0)
    rudder = Run("rudder", [trainer(rank, rudder=True, differing=differing) for rank in range(2)], 8.0)
    return stock, rudder


def test_verification_that_compared_nothing_is_a_fault():
    found = make(verify=True)
    assert report.faults(found) == []
    assert "no row" in report.faults({**found, "verified_rows": 0})[0]
    assert report.faults(make()) == []


PARTS = Parts(Path("/x/ring.json"), "ring", 5000, 70000, [400, 410], 3.0, cached=False)


def make(differing: int = 0, **settings) -> dict:
    return report.as_json(DemoSettings(**settings), PARTS, *runs(differing))


def test_numbers_are_those_of_the_trainers_together():
    found = make(verify=True)
    assert found["capacity_rows"] == 101
    assert found["accuracy"] == {"stock": 61 / 80, "rudder": 61 / 80}
    assert found["stock"]["epoch_seconds"] == [3.0, 1.0]  # of the slowest trainer
    assert found["stock"]["stall_seconds"] == 0.75  # of the mean trainer
    assert found["stock"]["stall_share"] == 0.75 / 4.0
    assert (found["stock"]["rows_requested"], found["stock"]["rows_moved"]) == (2000, 2000)
    assert (found["rudder"]["rows_requested"], found["rudder"]["rows_moved"]) == (2000, 700)
    assert found["rudder"]["bytes_moved"] == 700 * 512
    assert found["rudder"]["hit_rate"] == 0.6
    assert found["differing_rows"] == 0
    assert found["verified_rows"] == 6600
    assert found["transports"] == ["shm"]


def test_decisions_have_their_lines():
    found = make(controller="agent")
    assert found["decisions"] == {
        "made": 18,
        "valid": 16,
        "late": 2,
        "adopted": 6,
        "rolled_back": 4,
        "refused": 0,
        "seconds_steering": 0.02,
        "seconds_agent": 0.5,
        "seconds_gained": 1.0,
        "seconds_wall": 8.0,
        "agent_bytes": 46 << 20,
    }
    rows = {row[0].strip(): row[2:] for row in report.table_rows(found)}
    assert rows["decisions: made, valid, late"] == ("18, 16, 2", "")
    assert rows["adopted, rolled back"] == ("6, 4", "")
    assert rows["cost, of the time"] == ("0.02 s", "0.25%")
    assert rows["CPU of the model"] == ("0.50 s", "")
    assert rows["gain, modelled"] == ("1.00 s", "")
    assert "steered by controller agent" in report.notes(found)


def test_where_the_agent_cannot_run_the_default_plan_does_and_it_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr("rudder.demo.job.PILOT", tmp_path / "none.gguf")
    found = make()
    assert found["controller"] == "default"
    (line,) = (line for line in report.notes(found) if "steered" in line)
    assert "not the agent: no model comes with this package" in line
    model = tmp_path / "some.gguf"
    model.touch()
    monkeypatch.setattr("rudder.demo.job.PILOT", model)
    monkeypatch.setattr("rudder.demo.job.importlib.util.find_spec", lambda name: None)
    assert "llama-cpp-python is not installed" in make()["why_no_agent"]
    assert make(agent_model="http://localhost:11434")["controller"] == "agent"
    monkeypatch.setattr("rudder.demo.job.importlib.util.find_spec", lambda name: "there")
    assert (make()["controller"], make()["why_no_agent"]) == ("agent", None)


def test_nothing_is_said_of_decisions_where_nothing_steered(monkeypatch):
    monkeypatch.setitem(STEERED, "seconds_steering", 0.0)
    found = make(controller="default")
    assert found["decisions"] is None
    assert not any("decisions" in row[0] for row in report.table_rows(found))


def test_it_is_json():
    found = make()
    assert json.loads(json.dumps(found)) == found


def test_without_verify_nothing_is_said_of_differing_rows():
    found = make()
    assert found["differing_rows"] is None
    assert "rows that differ" not in [row[0] for row in report.table_rows(found)]


def test_differing_rows_are_a_fault():
    assert report.faults(make(verify=True)) == []
    (fault,) = report.faults(make(differing=3, verify=True))
    assert "6 of 6,600 rows differ" in fault


def test_different_minibatches_are_told():
    stock, rudder = runs()
    rudder.trainers[1]["fingerprint"] = 99
    found = report.as_json(DemoSettings(), PARTS, stock, rudder)
    assert not found["same_minibatches"]
    assert any("different minibatches" in note for note in report.notes(found))
    assert any("on the same minibatches" in note for note in report.notes(make()))


def test_trainers_that_change_places_draw_the_same_minibatches():
    stock, rudder = runs()
    for name in ("fingerprint", "losses"):
        first, second = rudder.trainers
        first[name], second[name] = second[name], first[name]
    found = report.as_json(DemoSettings(), PARTS, stock, rudder)
    assert found["same_minibatches"]
    assert found["largest_loss_difference"] == 0


def test_table_compares():
    rows = {row[0]: row[1:] for row in report.table_rows(make(verify=True))}
    assert rows["rows moved"] == ("2,000", "700", "x 0.35")
    assert rows["bytes moved"] == ("1,000.0 KiB", "350.0 KiB", "x 0.35")
    assert rows["hit rate"] == ("-", "60.0%", "")
    assert rows["rows that differ"] == ("-", "0", "of 6,600")


def test_table_can_be_drawn():
    rich_console = pytest.importorskip("rich.console")
    console = rich_console.Console(record=True, width=100, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(report.as_table(make()))
    assert "with Rudder" in console.export_text()
