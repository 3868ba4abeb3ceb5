"""Traces of one access a minibatch: our policies move what libCacheSim's do."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from rudder import _core

lcs = pytest.importorskip("libcachesim", reason="libcachesim is not installed (pip install libcachesim)")

CAPACITY = 1000
ACCESSES = 500_000


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    """Skewed ids of 20,000 rows; scattered, so that neighbours in rank are no neighbours in memory."""
    rank = np.random.default_rng(7).random(ACCESSES) ** 3 * 20_000
    return rank.astype(np.int64) * 7919 % 20_000


@pytest.fixture(scope="module")
def reader(ids: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> lcs.TraceReader:
    """The same trace in libCacheSim's binary format; every object has size 1."""
    path: Path = tmp_path_factory.mktemp("trace") / "trace.oracleGeneral"
    requests = np.zeros(len(ids), dtype=[("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("next", "<i8")])
    requests["time"], requests["id"], requests["size"], requests["next"] = np.arange(len(ids)), ids + 1, 1, -2
    requests.tofile(path)
    return lcs.TraceReader(str(path), lcs.TraceType.ORACLE_GENERAL_TRACE)


def theirs(policy: type, reader: lcs.TraceReader) -> tuple[int, float]:
    """Misses and CPU seconds. Their table has 2**24 entries by default; a small one is fairer to them."""
    cache = policy(CAPACITY, hashpower=16)
    started = time.process_time()
    miss_ratio, _ = cache.process_trace(reader)
    return round(miss_ratio * ACCESSES), time.process_time() - started


def ours(policy: str, ids: np.ndarray, minibatch: int) -> tuple[int, float]:
    """Rows moved and CPU seconds."""
    offsets = np.arange(0, len(ids) + 1, minibatch)
    started = time.process_time()
    answer = _core.replay(ids, offsets, policy, CAPACITY)
    return answer["rows_moved"], time.process_time() - started


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
    policy: str, their_policy: str, tolerance: float, ids: np.ndarray, reader: lcs.TraceReader
) -> None:
    rows, _ = ours(policy, ids, minibatch=1)
    their_rows, _ = theirs(getattr(lcs, their_policy), reader)
    assert rows == pytest.approx(their_rows, rel=tolerance, abs=0)


@pytest.mark.parametrize("minibatch", [1, 1000])
@pytest.mark.parametrize(("policy", "their_policy"), [("lru", "LRU"), ("sieve", "Sieve")])
def test_is_faster(
    policy: str, their_policy: str, minibatch: int, ids: np.ndarray, reader: lcs.TraceReader
) -> None:
    """The same accesses in the same order; theirs know no minibatches, live runs have large ones."""
    our_times, their_times = [], []
    for _ in range(7):  # in turn, so that what else the machine does meets both
        our_times.append(ours(policy, ids, minibatch)[1])
        their_times.append(theirs(getattr(lcs, their_policy), reader)[1])
    per_access = [min(times) / ACCESSES * 1e9 for times in (our_times, their_times)]
    print(f"{policy}, {minibatch} a minibatch: {per_access[0]:.0f} ns, libcachesim {per_access[1]:.0f}")
    assert per_access[0] < per_access[1]
