"""What the command line may say, and what it may not."""

from __future__ import annotations

import json

import pytest

from rudder.bench.settings import FetchSettings, parse_counts, parse_names, parse_places, parse_sizes
from rudder.errors import ConfigError


def test_lists_are_read() -> None:
    assert parse_counts("1000, 20_000,1000", "--rows") == (1000, 20000)
    assert parse_sizes("512,4KiB", "--row-bytes") == (512, 4096)
    assert parse_names("shm, ucx") == ("shm", "ucx")
    assert parse_places("10.0.0.5:18550,[::1]:1") == [("10.0.0.5", 18550), ("::1", 1)]


@pytest.mark.parametrize(
    "read",
    [
        lambda: parse_counts("", "--rows"),
        lambda: parse_counts("ten", "--rows"),
        lambda: parse_sizes("4 potatoes", "--row-bytes"),
        lambda: parse_sizes(",", "--row-bytes"),
        lambda: parse_places("host"),
        lambda: parse_places("host:99999"),
        lambda: FetchSettings(rows=(0,)),
        lambda: FetchSettings(in_flight=()),
        lambda: FetchSettings(transports=("nccl",)),
        lambda: FetchSettings(transports=("kvstore",), dgl=False),
        lambda: FetchSettings(seconds=0),
        lambda: FetchSettings(repeats=0),
        lambda: FetchSettings(table_bytes=100, row_bytes=(512,)),
    ],
)
def test_what_cannot_be_is_refused(read) -> None:
    with pytest.raises(ConfigError):
        read()


def test_settings_survive_a_journey_as_text() -> None:
    settings = FetchSettings(row_bytes=(8, 512), rows=(3,), transports=("shm",), dgl=False, seconds=0.5)
    assert FetchSettings.from_json(json.loads(json.dumps(settings.as_json()))) == settings
