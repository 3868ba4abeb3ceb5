"""The baseline gathers what it should, and is what rows are compared with."""

from __future__ import annotations

import numpy as np
import pytest

from rudder.bench.plain import PlainGather, column_ranges
from rudder.bench.rows import fill


@pytest.fixture
def tables() -> list[np.ndarray]:
    return [fill(np.empty((300, 24), dtype=np.uint8), 1, peer) for peer in (1, 2, 3)]


@pytest.mark.parametrize("peers", [1, 2, 3])
def test_every_way_gathers_the_same(tables: list[np.ndarray], peers: int) -> None:
    plain = PlainGather(tables)
    rows = np.random.default_rng(0).integers(0, 300, size=(4, 10))
    expected = np.concatenate(
        [tables[peer][part] for row in rows for peer, part in enumerate(np.array_split(row, peers))]
    )
    for way in plain._ways:
        plain.way = way
        out = np.zeros((40, 24), dtype=np.uint8)
        assert plain.gather(rows, out, peers) > 0
        assert np.array_equal(out, expected), way
        assert plain.same(rows, out, peers)


def test_one_wrong_byte_is_seen(tables: list[np.ndarray]) -> None:
    plain = PlainGather(tables)
    rows = np.random.default_rng(0).integers(0, 300, size=(4, 10))
    out = np.zeros((40, 24), dtype=np.uint8)
    plain.gather(rows, out, 3)
    for place in [(0, 0), (17, 5), (39, 23)]:
        out[place] ^= 1
        assert not plain.same(rows, out, 3)
        out[place] ^= 1
    assert plain.same(rows, out, 3)


def test_the_fastest_way_is_kept(tables: list[np.ndarray]) -> None:
    plain = PlainGather(tables)
    assert plain.choose(np.zeros((2, 5), dtype=np.int64), np.zeros((10, 24), np.uint8), 2) in plain._ways


@pytest.mark.parametrize(("width", "peers"), [(10, 1), (10, 3), (2, 3), (7, 7), (1, 2)])
def test_columns_are_those_of_array_split(width: int, peers: int) -> None:
    parts = [part for part in np.array_split(np.arange(width), peers) if len(part)]
    assert column_ranges(width, peers) == [(part[0], part[-1] + 1) for part in parts]
