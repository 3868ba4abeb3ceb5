"""Partitions are made once for each combination of graph and settings."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from rudder.demo import parts
from rudder.demo.settings import DemoSettings
from rudder.graphs import Graph, save_npz

SMALL = DemoSettings(nodes=600, feature_dim=4, batch_size=50, fanout=(3, 3))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RUDDER_CACHE", str(tmp_path / "cache"))


def test_second_time_comes_from_the_cache():
    pytest.importorskip("torch")
    stages: list[str] = []
    first = parts.prepare(SMALL, stages.append)
    assert not first.cached
    assert first.part_config.is_file()
    assert len(first.halo_nodes) == 2
    assert stages
    second = parts.prepare(SMALL, lambda words: pytest.fail(f"made again: {words}"))
    assert second == dataclasses.replace(first, cached=True)


def test_half_made_partitions_are_made_again():
    pytest.importorskip("torch")
    first = parts.prepare(SMALL)
    (first.part_config.parent / "report.json").unlink()
    first.part_config.write_text("{")
    assert not parts.prepare(SMALL).cached
    assert first.part_config.read_text() != "{"


@pytest.mark.parametrize(
    "change",
    [{"hosts": 3}, {"nodes": 700}, {"fanout": (3, 4)}, {"batch_size": 60}, {"seed": 1}, {"trainers": 2}],
)
def test_key_depends_on(change):
    assert parts.key(dataclasses.replace(SMALL, **change)) != parts.key(SMALL)


@pytest.mark.parametrize("change", [{"epochs": 9}, {"capacity": 10}, {"policy": "lru"}, {"verify": True}])
def test_key_does_not_depend_on(change):
    assert parts.key(dataclasses.replace(SMALL, **change)) == parts.key(SMALL)


def test_key_depends_on_the_content_of_a_file(tmp_path):
    def key(last: int) -> str:
        src, dst = np.array([0, 1], dtype=np.int32), np.array([1, last], dtype=np.int32)
        save_npz(tmp_path / "ring.npz", Graph("ring", src, dst, 3))
        return parts.key(DemoSettings(graph=tmp_path / "ring.npz"))

    assert key(2) != key(0)
