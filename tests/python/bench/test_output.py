"""Tables and pictures of results."""

from __future__ import annotations

from pathlib import Path

import pytest

from rudder import pictures
from rudder.bench import plot
from rudder.bench.result import CrowdResult, FetchResult, Report
from rudder.errors import ConfigError


def result(**other) -> FetchResult:
    fields = {
        "transport": "ucx",
        "link": "loopback",
        "row_bytes": 512,
        "rows_per_request": 1000,
        "in_flight": 1,
        "peers": 1,
        "rows_per_second": 2e6,
        "gigabytes_per_second": 1.024,
        "p50_us": 500.0,
        "p99_us": 600.0,
        "p999_us": 700.0,
        "ratio_to_memcpy_gather": 0.3,
        "ratio_to_raw_stream": 0.8,
        "ratio_to_distdgl_pull": None,
        "cpu_ns_per_row": 450.0,
        "verified": True,
    }
    return FetchResult(**{**fields, **other})


CROWD = CrowdResult("ucx", "loopback", 512, 1000, 1, 4, 2e6, 1.024, 1.25, 0.75, True)


def test_a_report_is_verified_where_everything_is() -> None:
    assert Report([result()], [CROWD], []).verified
    assert not Report([result(), result(verified=False)], [], []).verified


def test_tables_show_what_was_found() -> None:
    console = pytest.importorskip("rich.console").Console(width=300)
    from rudder.bench import table

    with console.capture() as shown:
        console.print(table.of_results([result(), result(row_bytes=4096, verified=False)]))
        console.print(table.of_crowds([CROWD]))
    text = shown.get()
    for words in ("512 B", "4 KiB", "2,000,000", "0.80", "verified", "BYTES DIFFER", "1.25", "0.75"):
        assert words in text


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    results = [
        result(transport=name, rows_per_request=rows, row_bytes=row_bytes, cpu_ns_per_row=None)
        for name in ("shm", "ucx")
        for rows in (10, 1000)
        for row_bytes in (512, 4096)
    ]
    plot.draw(results, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    plot.draw(results[:1], tmp_path / "picture.svg")


@pytest.mark.parametrize("name", ["picture.txt", "nowhere/picture.png"])
def test_a_picture_that_cannot_be_written_is_refused_early(tmp_path: Path, name: str) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(ConfigError, match="--plot"):
        pictures.check(tmp_path / name)
