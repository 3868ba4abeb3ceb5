"""Our LRU and SIEVE beside libCacheSim's on one trace: time and misses.

Half a million accesses to 20,000 rows, skewed, with a buffer of 1,000. Ours replay the trace with one access
a minibatch, as libCacheSim sees it, and in minibatches of 1,000, which live runs resemble. All run in turn in
this process; the best of the repetitions counts, in CPU time. Asserts that with one access a minibatch the
misses are equal. Goal: faster than libCacheSim. Run:

    python benchmarks/libcachesim_bench.py
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import libcachesim as lcs
import numpy as np
from numpy.typing import NDArray

from rudder import _core

CAPACITY, ACCESSES, ROWS = 1000, 500_000, 20_000
POLICIES = {"lru": "LRU", "sieve": "Sieve"}


def skewed_ids() -> NDArray[np.int64]:
    """Scattered, so that neighbours in rank are no neighbours in memory."""
    rank = np.random.default_rng(7).random(ACCESSES) ** 3 * ROWS
    return rank.astype(np.int64) * 7919 % ROWS


def reader_of(ids: NDArray[np.int64], folder: Path) -> Any:
    """The trace in libCacheSim's own binary format; every object has size 1."""
    requests = np.zeros(len(ids), dtype=[("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("next", "<i8")])
    requests["time"], requests["id"], requests["size"], requests["next"] = np.arange(len(ids)), ids + 1, 1, -2
    path = folder / "trace.oracleGeneral"
    requests.tofile(path)
    return lcs.TraceReader(str(path), lcs.TraceType.ORACLE_GENERAL_TRACE)


def theirs(policy: str, reader: Any) -> tuple[int, float]:
    """Misses and CPU seconds of a policy, by their name for it.

    Their table has 2**24 entries by default; a small one is fairer to them.
    """
    cache = getattr(lcs, policy)(CAPACITY, hashpower=16)
    began = time.process_time()
    miss_ratio, _ = cache.process_trace(reader)
    return round(miss_ratio * ACCESSES), time.process_time() - began


def ours(policy: str, ids: NDArray[np.int64], minibatch: int) -> tuple[int, float]:
    """Rows moved and CPU seconds."""
    offsets = np.arange(0, len(ids) + 1, minibatch)
    began = time.process_time()
    answer = _core.replay(ids, offsets, policy, CAPACITY)
    return answer["rows_moved"], time.process_time() - began


def measure(policy: str, ids: NDArray[np.int64], reader: Any, repetitions: int) -> dict[str, float]:
    """Nanoseconds an access; asserts the misses."""
    seconds: dict[str, list[float]] = {"libcachesim": [], "one": [], "thousand": []}
    for _ in range(repetitions):  # in turn, so that what else the machine does meets all
        their_misses, spent = theirs(POLICIES[policy], reader)
        seconds["libcachesim"].append(spent)
        our_misses, spent = ours(policy, ids, 1)
        seconds["one"].append(spent)
        seconds["thousand"].append(ours(policy, ids, 1000)[1])
        assert our_misses == their_misses, (policy, our_misses, their_misses)
    return {name: min(spent) / ACCESSES * 1e9 for name, spent in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    ids = skewed_ids()
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        reader = reader_of(ids, Path(folder))
        for policy in POLICIES:
            result[policy] = found = measure(policy, ids, reader, arguments.repetitions)
            print(
                f"{policy}: {found['one']:.1f} ns an access with one a minibatch,"
                f" {found['thousand']:.1f} with 1,000; libcachesim {found['libcachesim']:.1f}"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
