"""Trainers of a launched job share memory with those of their own host alone; nothing is left of it."""

from __future__ import annotations

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


def test_one_trainer_has_nobody_to_share_with(launcher: Any, two_parts: str, workers: Path) -> None:
    code, output = launcher.run(
        *("--local", "2", "--part-config", two_parts, "--servers", "0", "--no-feature-servers"),
        *("--share-memory", "--", str(workers / "shares.py")),
    )
    assert code != 0
    assert "--trainers 2" in output
