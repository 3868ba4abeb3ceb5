"""Sizes and capacities as users write them."""

from __future__ import annotations

from typing import Any

import pytest

from rudder.config import parse_bytes, rows_of_capacity
from rudder.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GiB", 2 << 30), ("512MB", 512_000_000), ("1.5 KiB", 1536), ("7b", 7), (123, 123), ("0B", 0)],
)
def test_sizes(text: Any, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "2", "2 apples", "-1GiB", "1e9B", None, 1.5, -1, True])
def test_what_is_no_size_is_refused(text: Any) -> None:
    with pytest.raises(ConfigError):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("capacity", "rows"),
    [
        (0.25, 250),
        ("25%", 250),
        (0.0, 0),
        (0, 0),
        (300, 300),
        ("64KiB", 128),
        ("1GiB", 5000),
        (10**9, 5000),
        (900.0, 5000),
    ],
)
def test_capacity_is_a_share_of_the_halo_or_rows_or_memory(capacity: Any, rows: int) -> None:
    assert rows_of_capacity(capacity, halo_rows=1000, remote_rows=5000, row_bytes=512) == rows


@pytest.mark.parametrize("capacity", [-1, -0.5, float("nan"), True, None, "much", "25"])
def test_what_is_no_capacity_is_refused(capacity: Any) -> None:
    with pytest.raises(ConfigError):
        rows_of_capacity(capacity, halo_rows=1000, remote_rows=5000, row_bytes=512)
