"""The commands of docs/replay.md, line by line, after README's walk-through, which they continue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Callable

import pytest

import rudder  # noqa: F401  (lets DGL import)

pytest.importorskip("torch")
pytest.importorskip("dgl")
pytest.importorskip("matplotlib", reason="needs matplotlib, for --plot")


def test_its_commands_run(
    shell: Callable[..., str], sh_blocks: Callable[[str], list[str]], walk_through: str, tmp_path: Path
) -> None:
    parts = [line for line in walk_through.splitlines() if not line.startswith("rudder launch")]
    blocks = sh_blocks("docs/replay.md")
    assert sum(block.count("rudder replay") for block in blocks) >= 9
    output = shell("\n".join([*parts, *blocks]), timeout=280)

    records = sorted(path.name for path in (tmp_path / "out" / "record").glob("*.trace"))
    assert records == ["rank-0.features.trace", "rank-1.features.trace"]
    assert len(list((tmp_path / "out" / "record2").glob("*.trace"))) == 4
    assert output.count("(live)") >= 2
    assert (tmp_path / "out" / "replay.png").stat().st_size > 10_000
    found = json.loads((tmp_path / "out" / "replay.json").read_text())
    assert {(each["policy"], each["capacity_fraction"]) for each in found} == {
        (policy, share) for policy in ("lookahead", "lru") for share in (0.05, 0.1, 0.25, 0.5)
    }
    for each in found:
        assert 0 < each["rows_moved"] < each["rows_requested"]
