"""Ranks that measure how fast they trade rows, over the stand-ins: threads, then processes of torchrun."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nccl_ranks import ThreadStore, run_ranks
from standin_place import StandInPlace
from torchrun import torchrun

from rudder.bench import exchange
from rudder.bench.gpu import GpuSettings
from rudder.errors import ConfigError

SETTINGS = GpuSettings(row_bytes=(20, 64), rows=(50, 300), table_bytes=40 << 10, repeats=3, threads=1, seed=2)


def measure(ranks: int, place: type[StandInPlace] = StandInPlace) -> list[list[exchange.ExchangeResult]]:
    store = ThreadStore()

    def body(rank: int) -> list[exchange.ExchangeResult]:
        return exchange.measure(exchange.Ranks(store, rank, ranks), place(rank), SETTINGS, lambda words: None)

    return run_ranks(ranks, body)


@pytest.mark.usefixtures("faked")
def test_every_shape_is_measured_and_right() -> None:
    first, *others = measure(3)
    assert others == [first, first]
    assert [(each.row_bytes, each.subject, each.rows) for each in first] == [
        (row_bytes, f"NCCL, shards {where}", rows)
        for row_bytes in (20, 64)
        for where in exchange.PLACES
        for rows in (50, 300)
    ]
    for each in first:
        assert each.verified
        assert (each.ranks, each.timed_by) == (3, "wall clock")
        assert each.serving == ("copies" if "GPU" in each.subject else "processor")
        assert each.gigabytes_per_second == pytest.approx(
            each.row_bytes * each.rows / each.milliseconds / 1e6
        )


@pytest.mark.usefixtures("faked")
def test_a_wrong_byte_on_one_rank_is_known_to_all() -> None:
    class Wrong(StandInPlace):
        def bytes_of(self, rows: Any) -> np.ndarray:
            made = super().bytes_of(rows)
            if self.device == 1:
                made[-1, -1] ^= 1
            return made

    for results in measure(2, Wrong):
        assert not any(each.verified for each in results)


@pytest.mark.usefixtures("faked")
def test_a_rank_alone_trades_with_nobody() -> None:
    with pytest.raises(ConfigError, match="two ranks or more"):
        measure(1)


def command(folder: Path, **variables: str) -> tuple[int, str, str]:
    pytest.importorskip("typer")
    sizes = ["--row-bytes", "100", "--rows", "400", "--table-bytes", "64KiB", "--repeats", "3"]
    return torchrun(2, "bench_rank.py", *sizes, "--json", str(folder / "found.json"), **variables)


def test_the_command_under_torchrun_prints_one_table(fakes: dict[str, str], tmp_path: Path) -> None:
    code, out, err = command(tmp_path, **fakes)
    assert code == 0, err
    assert out.count("rows between GPUs") == 1
    assert out.count("verified") == 2
    found = [each for each in json.loads((tmp_path / "found.json").read_text()) if "ranks" in each]
    assert [(each["ranks"], each["row_bytes"], each["rows"]) for each in found] == [(2, 100, 400)] * 2
    assert all(each["verified"] and each["milliseconds"] > 0 for each in found)


def test_ranks_without_a_gpu_say_so(fakes: dict[str, str], tmp_path: Path) -> None:
    code, out, err = command(tmp_path, **fakes, FAKE_CUDA_DEVICES="1")
    assert "rows between GPUs: not measured: rank 1: device 1 must be one of the 1 GPUs here" in out + err
    assert (code == 0) == ("copy on the device" in out)  # a GPU for the rest, or none at all
