"""What recording costs a step, and its bytes an access on disk.

Two identical tables of one process, one of which records, get the same minibatches: 20,000 ids by a power
law over 1 M rows of 512 bytes, three quarters of them remote, and for training two matrix products on all
cores, so that none is idle for the recorder's thread. They take turns of 20 steps, either goes first every
other time, and the median of the turns' ratios counts. Asserts that the record replays to the rows that the
run moved. Goals: at most 2% of a step, about 2 bytes an access. Run:

    python benchmarks/record_bench.py
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from rudder import ArraySource, Options, Plan, Prefetcher
from rudder.replay import load_case
from rudder.replay.run import replay_live
from rudder.source import Ids

GOAL, TURN = 0.02, 20
ROWS, WANTED, WIDTH, CAPACITY = 1_000_000, 20_000, 128, 100_000
STARTS = [0, ROWS // 4, ROWS]


def minibatches(count: int) -> list[Ids]:
    rng = np.random.default_rng(0)
    name = rng.permutation(ROWS)
    steps = np.cumsum(1 / np.arange(1, ROWS + 1) ** 0.7)
    return [name[np.unique(np.searchsorted(steps, rng.random(WANTED) * steps[-1]))] for _ in range(count)]


def step(table: Prefetcher, ids: Ids, weights: np.ndarray) -> float:
    """Seconds of submitting a minibatch, reading its rows and training on them."""
    began = time.perf_counter()
    table.announce(table.submit(ids))
    rows = table[ids]
    np.maximum(rows @ weights, 0) @ weights.T
    return time.perf_counter() - began


def measure(count: int, folder: Path) -> dict[str, float]:
    batches = minibatches(count)
    source = ArraySource(np.ones((ROWS, WIDTH), dtype=np.float32), STARTS)
    weights = np.random.default_rng(1).random((WIDTH, 256), dtype=np.float32)
    turns: dict[bool, list[float]] = {False: [], True: []}
    settings = {"capacity": CAPACITY, "prior": "none", "plan": Plan(interval=4096), "gap_meter": False}
    with (
        Prefetcher(source, Options(**settings)) as plain,
        Prefetcher(source, Options(**settings, record=folder)) as recorded,
    ):
        tables = {False: plain, True: recorded}
        for turn, begin in enumerate(range(0, count, TURN)):
            for recording in (False, True) if turn % 2 else (True, False):
                turns[recording].append(
                    sum(step(tables[recording], ids, weights) for ids in batches[begin : begin + TURN])
                )
    (path,) = folder.glob("*.trace")
    case = load_case(path)
    assert case.live is not None
    moved, wanted = replay_live(case.live)["rows_moved"], recorded.metrics().rows_moved
    assert moved == wanted, (moved, wanted)
    ratios = [with_it / without for without, with_it in zip(turns[False], turns[True])]
    return {
        "step_ms": statistics.median(turns[False]) / TURN * 1e3,
        "step_recorded_ms": statistics.median(turns[True]) / TURN * 1e3,
        "added_share": statistics.median(ratios) - 1,
        "added_share_of_totals": sum(turns[True]) / sum(turns[False]) - 1,
        "bytes_per_access": os.path.getsize(path) / len(case.ids),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(arguments.steps, Path(folder))
    for name, value in result.items():
        print(f"{name:30} {value:10.4f}")
    print(f"{result['added_share']:.2%} of a step (goal: at most {GOAL:.0%})")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
