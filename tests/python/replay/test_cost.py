"""Time and memory of a setting, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rudder.errors import ConfigError
from rudder.replay.cost import (
    Costs,
    parse_bandwidth,
    parse_seconds,
    rows_at_equal_memory,
    seconds_per_step,
    window_memory,
)
from rudder.replay.settings import Window, parse_capacity

OFFSETS = np.array([0, 10, 30, 35, 50])


@pytest.mark.parametrize(
    ("text", "rate"),
    [("8bit", 1.0), ("10gbit", 1.25e9), ("10Gbps", 1.25e9), ("1MB", 1e6), ("1.5 MiB/s", 1.5 * 2**20)],
)
def test_bandwidths(text: str, rate: float) -> None:
    assert parse_bandwidth(text) == pytest.approx(rate)


@pytest.mark.parametrize("text", ["", "0gbit", "10", "-1gbit", "fast"])
def test_what_is_no_bandwidth(text: str) -> None:
    with pytest.raises(ConfigError, match="bandwidth"):
        parse_bandwidth(text)


def test_times() -> None:
    assert parse_seconds("100us", "x") == pytest.approx(1e-4)
    assert parse_seconds("3ms", "x") == pytest.approx(3e-3)
    assert parse_seconds("0.5s", "x") == 0.5
    with pytest.raises(ConfigError, match="--compute '3'"):
        parse_seconds("3", "--compute")


def test_stages_overlap_where_something_is_fetched_ahead() -> None:
    costs = Costs(bandwidth=1000.0, latency=0.5, depth=1)
    # 0.5 s and 100 rows of 10 bytes at 1000 bytes a second.
    assert seconds_per_step(costs, 100, 10, compute=1.0, sampling=0.2) == 1.5
    assert seconds_per_step(costs, 100, 10, compute=2.0, sampling=0.2) == 2.0
    assert seconds_per_step(costs, 0, 10, compute=0.1, sampling=0.2) == 0.2
    serial = Costs(bandwidth=1000.0, latency=0.5, depth=0)
    assert seconds_per_step(serial, 100, 10, compute=1.0, sampling=0.25) == 2.75


def test_the_window_at_its_fullest() -> None:
    costs = Costs(request_bytes=8, edges=100, edge_bytes=4.0)
    # Beyond the first: 20, 5 and 15 requests; 21 are reached with two of them.
    found = window_memory(OFFSETS, Window(buffers=1.0), 21, costs)
    assert (found.requests, found.minibatches) == (25, 2)
    assert (found.id_bytes, found.block_bytes) == (200, 800)
    assert window_memory(OFFSETS, Window(minibatches=1), 21, costs).requests == 20
    assert window_memory(OFFSETS, Window(minibatches=9), 21, costs).requests == 40
    assert window_memory(OFFSETS, Window(), 21, costs).total_bytes == 0


def test_rows_left_by_a_window() -> None:
    costs = Costs(request_bytes=1)
    assert rows_at_equal_memory(OFFSETS, Window(), 21, costs, row_bytes=1) == 21
    # 20 requests wait whatever the buffer holds.
    assert rows_at_equal_memory(OFFSETS, Window(minibatches=1), 21, costs, row_bytes=1) == 1
    assert rows_at_equal_memory(OFFSETS, Window(minibatches=2), 21, costs, row_bytes=1) == 0


def test_costs_that_cannot_be() -> None:
    for wrong in ({"bandwidth": 0.0}, {"latency": -1.0}, {"row_bytes": 0}, {"edges": -1}, {"depth": -1}):
        with pytest.raises(ConfigError):
            Costs(**wrong)


def test_capacities() -> None:
    def rows(text: str, halo: int = 27742) -> tuple[int, float | None]:
        found = parse_capacity(text, halo_rows=halo, rows=30000, row_bytes=100)
        return found.rows, found.fraction

    # Shares are rounded down, as in the traces with known answers.
    assert rows("25%") == (6935, 0.25)
    assert rows("0.25") == (6935, 0.25)
    assert rows("29%", halo=100) == (29, 0.29)
    assert rows("13871") == (13871, 0.5)
    assert rows("10kB") == (100, round(100 / 27742, 6))
    assert rows("100", halo=0) == (100, None)
    with pytest.raises(ConfigError, match="give rows"):
        rows("25%", halo=0)


@pytest.mark.parametrize(("text", "window"), [("4", 4), ("0.5", 0.5), ("16b", "16b"), ("0", 0)])
def test_windows(text: str, window: object) -> None:
    assert Window.parse(text).as_json() == window
    assert str(Window.parse(text)) == text


def test_what_is_no_window() -> None:
    for text in ("", "-1", "4x", "b"):
        with pytest.raises(ConfigError, match="window"):
            Window.parse(text)
