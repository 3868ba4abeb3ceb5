"""Traces of one access a minibatch: our policies move what libCacheSim's do."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("libcachesim", reason="libcachesim is not installed (pip install libcachesim)")

_PATH = Path(__file__).parents[3] / "benchmarks" / "libcachesim_bench.py"
_SPEC = importlib.util.spec_from_file_location("libcachesim_bench", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
bench: Any = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(bench)


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    return bench.skewed_ids()


@pytest.fixture(scope="module")
def reader(ids: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return bench.reader_of(ids, tmp_path_factory.mktemp("trace"))


@pytest.mark.parametrize(
    ("policy", "their_policy", "tolerance"),
    [
        ("lru", "LRU", 0),
        ("fifo", "FIFO", 0),
        ("lfu", "LFU", 0),
        ("sieve", "Sieve", 0),
        ("s3fifo", "S3FIFO", 0.01),
        ("wtinylfu", "WTinyLFU", 0.01),
    ],
)
def test_moves_the_same_rows(
    policy: str, their_policy: str, tolerance: float, ids: np.ndarray, reader: Any
) -> None:
    rows, _ = bench.ours(policy, ids, minibatch=1)
    their_rows, _ = bench.theirs(their_policy, reader)
    assert rows == pytest.approx(their_rows, rel=tolerance, abs=0)


@pytest.mark.parametrize("minibatch", [1, 1000])
@pytest.mark.parametrize(("policy", "their_policy"), [("lru", "LRU"), ("sieve", "Sieve")])
def test_is_faster(policy: str, their_policy: str, minibatch: int, ids: np.ndarray, reader: Any) -> None:
    """The same accesses in the same order; theirs know no minibatches, live runs have large ones."""
    our_times, their_times = [], []
    for _ in range(7):  # in turn, so that what else the machine does meets both
        our_times.append(bench.ours(policy, ids, minibatch)[1])
        their_times.append(bench.theirs(their_policy, reader)[1])
    per_access = [min(times) / bench.ACCESSES * 1e9 for times in (our_times, their_times)]
    print(f"{policy}, {minibatch} a minibatch: {per_access[0]:.0f} ns, libcachesim {per_access[1]:.0f}")
    assert per_access[0] < per_access[1]
