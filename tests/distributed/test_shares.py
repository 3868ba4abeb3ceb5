"""Trainers of a launched job share memory with those of their own host alone; nothing is left of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any


def test_a_host_has_a_board_of_its_own(launcher: Any, two_parts: str, workers: Path) -> None:
    code, output = launcher.run(
        *("--local", "2", "--part-config", two_parts, "--trainers", "2", "--servers", "0"),
        *(
            "--no-feature-servers",
            "--controller",
            "shadow",
            "--share-memory",
            "--",
            str(workers / "shares.py"),
        ),
    )
    assert code == 0, output
    assert output.count("host 0 shares among [0, 1]") == 2
    assert output.count("host 1 shares among [2, 3]") == 2


def test_trainers_of_a_dgl_job_trade_and_read_the_stock_rows(
    launcher: Any, ring_parts: str, workers: Path
) -> None:
    code, output = launcher.run(
        *("--local", "2", "--part-config", ring_parts, "--trainers", "2", "--share-memory"),
        *("--", str(workers / "attach.py"), "trade"),
    )
    assert code == 0, output
    reports = [json.loads(text) for text in re.findall(r"REPORT (\{.*\})", output)]
    assert sorted(report["rank"] for report in reports) == [0, 1, 2, 3]
    assert all(report["differing_rows"] == 0 < report["verified_rows"] for report in reports)


def test_one_trainer_has_nobody_to_share_with(launcher: Any, two_parts: str, workers: Path) -> None:
    code, output = launcher.run(
        *("--local", "2", "--part-config", two_parts, "--servers", "0", "--no-feature-servers"),
        *("--share-memory", "--", str(workers / "shares.py")),
    )
    assert code != 0
    assert "--trainers 2" in output
