"""Rows follow from the seed, the peer and their number, and from nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from rudder.bench.rows import fill, table_name


def table(rows: int, row_bytes: int, seed: int = 1, peer: int = 1) -> np.ndarray:
    return fill(np.empty((rows, row_bytes), dtype=np.uint8), seed, peer)


@pytest.mark.parametrize("row_bytes", [1, 7, 8, 100, 512, 4096])
def test_a_row_is_the_same_in_a_longer_table(row_bytes: int) -> None:
    assert np.array_equal(table(50, row_bytes), table(5000, row_bytes)[:50])


def test_seed_peer_and_row_make_other_bytes() -> None:
    tables = [table(1000, 64), table(1000, 64, seed=2), table(1000, 64, peer=2)]
    rows = {row.tobytes() for each in tables for row in each}
    assert len(rows) == 3000


def test_bytes_are_spread_evenly() -> None:
    counts = np.bincount(table(4096, 256).reshape(-1), minlength=256)
    assert counts.min() > 0.9 * 4096
    assert counts.max() < 1.1 * 4096


def test_the_name_tells_tables_apart() -> None:
    names = {table_name(*each) for each in [(1, 1, 10, 8), (2, 1, 10, 8), (1, 2, 10, 8), (1, 1, 10, 16)]}
    assert len(names) == 4
