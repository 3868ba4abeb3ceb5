"""README's walk-through, line by line: a small graph, its partitions, and the example that trains on them."""

from __future__ import annotations

import json
import re

import pytest

import rudder  # noqa: F401  (lets DGL import)

# Classes of the generated graph: what guessing gets is one over it.
CLASSES = 16


def test_readme_walk_through(shell, walk_through, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("dgl")
    output = shell(walk_through)
    accuracy = re.search(r"^\[host0 trainer0\] test accuracy (0\.\d+)$", output, re.MULTILINE)
    assert accuracy, output
    assert float(accuracy[1]) > 3 / CLASSES

    run = tmp_path / "out" / "run"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["state"] == "finished"
    assert [rank["rank"] for rank in summary["ranks"]] == [0, 1]
    assert 0 < summary["total"]["rows_moved"] < summary["total"]["rows_requested"]
    own = summary["ranks"][0]["tensors"]["features"]
    said = re.search(
        r"^\[host0 trainer0\] remote rows: ([\d,]+) requested, ([\d,]+) moved$", output, re.MULTILINE
    )
    assert said, output
    requested, moved = (int(number.replace(",", "")) for number in said.groups())
    # Two minibatches are fetched for an epoch that never comes; when the run ends they no longer count as
    # requested, and their last rows may have arrived.
    assert requested >= own["rows_requested"], output
    assert 0 < moved <= own["rows_moved"], output
    for rank in (0, 1):
        lines = (run / f"rank-{rank}.features.jsonl").read_text().splitlines()
        assert [json.loads(line)["kind"] for line in lines][:: len(lines) - 1] == ["start", "end"]
