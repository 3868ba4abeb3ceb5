"""What may be chosen, and what is refused before anything starts."""

from __future__ import annotations

import pytest

from rudder.demo.settings import DemoSettings, parse_capacity, parse_fanout
from rudder.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "capacity"),
    [("0.25", 0.25), ("1.0", 1.0), (".5", 0.5), ("9000", 9000), ("2GiB", "2GiB"), ("25%", "25%")],
)
def test_capacity_is_share_rows_or_memory(text, capacity):
    parsed = parse_capacity(text)
    assert parsed == capacity
    assert type(parsed) is type(capacity)


def test_fanout():
    assert parse_fanout("10,25") == (10, 25)
    with pytest.raises(ConfigError, match="write numbers with commas"):
        parse_fanout("10;25")


@pytest.mark.parametrize(
    "wrong",
    [{"hosts": 1}, {"epochs": 0}, {"trainers": 0}, {"fanout": ()}, {"fanout": (5, 0)}, {"depth": 0}],
)
def test_refuses(wrong):
    with pytest.raises(ConfigError):
        DemoSettings(**wrong)
