"""Metrics on disk: lines per rank and tensor, one summary for all."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from rudder.metrics import difference
from rudder.plan import Plan
from rudder.run_folder import RunFolder, clear


def values(rows_requested: int, rows_hit: int) -> dict[str, object]:
    later = {"rows_requested": rows_requested, "rows_hit": rows_hit, "rows_moved": rows_requested - rows_hit}
    return difference(
        {}, later, tensor="t", rank=0, interval=0, minibatches=1, plan=Plan(), row_bytes=4
    ).to_json()


def test_one_summary_adds_up_all_ranks_and_tensors(tmp_path: Path) -> None:
    for rank in range(3):
        folder = RunFolder(tmp_path, rank)
        folder.summarise("features", "finished", values(100, 25))
        folder.summarise("labels", "finished", values(10, 5))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["state"] == "finished"
    assert [rank["rank"] for rank in summary["ranks"]] == [0, 1, 2]
    assert summary["total"]["rows_requested"] == 330
    assert summary["total"]["rows_moved"] == summary["total"]["bytes_moved"] / 4 == 240
    assert summary["total"]["hit_rate"] == round(90 / 330, 6)


def test_the_worst_state_is_the_runs(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, 0)
    folder.summarise("a", "running", values(1, 0))
    folder.summarise("b", "finished", values(1, 0))
    assert json.loads((tmp_path / "summary.json").read_text())["state"] == "running"
    folder.summarise("a", "failed", values(1, 0))
    assert json.loads((tmp_path / "summary.json").read_text())["state"] == "failed"


def test_ranks_that_finish_at_once_are_all_in_the_summary(tmp_path: Path) -> None:
    def finish(rank: int) -> None:
        RunFolder(tmp_path, rank).summarise("t", "finished", values(1, 0))

    threads = [threading.Thread(target=finish, args=(rank,)) for rank in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert json.loads((tmp_path / "summary.json").read_text())["total"]["rows_requested"] == 16


def test_a_new_run_starts_its_file_anew(tmp_path: Path) -> None:
    RunFolder(tmp_path, 0).append("a/b", "start", {"x": 1})
    second = RunFolder(tmp_path, 0)
    second.append("a/b", "start", {"x": 2})
    second.append("a/b", "interval", {"x": 3})
    lines = [json.loads(line) for line in (tmp_path / "rank-0.a_b.jsonl").read_text().splitlines()]
    assert [(line["kind"], line["x"]) for line in lines] == [("start", 2), ("interval", 3)]


def test_ranks_of_another_run_do_not_count(tmp_path: Path) -> None:
    for rank in range(3):
        RunFolder(tmp_path, rank, "earlier").summarise("t", "running", values(100, 0))
    RunFolder(tmp_path, 0, "later").summarise("t", "finished", values(1, 0))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["run"], summary["state"], summary["total"]["rows_requested"]) == ("later", "finished", 1)


def test_clearing_removes_metrics_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "rank-0.features.trace").write_text("accesses")
    (tmp_path / "model.pt").write_text("weights")
    folder = RunFolder(tmp_path, 0)
    folder.append("features", "start", {})
    folder.summarise("features", "finished", values(1, 0))
    clear(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt", "rank-0.features.trace"]
