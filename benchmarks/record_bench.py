"""What recording costs a step, and its bytes an access on disk.

Two identical tables of one process, one of which records, get the same minibatches: 20,000 ids by a power
law over 1 M rows of 512 bytes, three quarters of them remote, and for training matrix products on all cores,
so that none is idle for the recorder's thread. They take turns of a few steps, either goes first every other
time, and the median of the turns' ratios counts, with an interval that holds it in 95% of runs whatever the
noise looks like (order statistics of the ratios). Beside it, the CPU time of the recorder's thread.

Asserts that the record replays to the rows that the run moved. Goals: at most 2% of a step, about 2 bytes an
access; `entropy_bytes` is what no code for such ids goes below while their order is kept. Run:

    python benchmarks/record_bench.py
"""

from __future__ import annotations

import math
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from harness import run, skew, skewed_minibatches

from rudder import ArraySource, Options, Plan, Prefetcher
from rudder.replay import load_case
from rudder.replay.run import replay_live
from rudder.source import Ids

GOAL, TURN = 0.02, 5
ROWS, WANTED, WIDTH, CAPACITY = 1_000_000, 20_000, 128, 100_000
STARTS = [0, ROWS // 4, ROWS]


def step(table: Prefetcher, ids: Ids, weights: np.ndarray) -> float:
    """Seconds of submitting a minibatch, reading its rows and training on them."""
    began = time.perf_counter()
    table.announce(table.submit(ids))
    rows = table[ids]
    for _ in range(2):
        np.maximum(rows @ weights, 0) @ weights.T
    return time.perf_counter() - began


def recorder_seconds() -> float:
    """CPU time of the recorder's thread so far."""
    (thread,) = (each for each in threading.enumerate() if each.name == "rudder-recorder")
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident or 0))


def interval_of_median(values: list[float]) -> tuple[float, float]:
    """Holds the median that the values are drawn around in 95% of cases."""
    ordered = sorted(values)
    # The number of values below the median is binomial: half of them, give or take.
    reach = 0.98 * len(values) ** 0.5
    low = max(0, int(len(values) / 2 - reach))
    high = min(len(values) - 1, int(np.ceil(len(values) / 2 + reach)))
    return ordered[low], ordered[high]


def entropy_bytes() -> float:
    """Bytes an access that no code can go below: which rows a minibatch has, and in which order."""
    met = -np.expm1(WANTED * np.log1p(-skew(ROWS)))  # chance of each rank to be in a minibatch
    met = np.minimum(met, 1 - 1e-12)  # 0 log 0 is 0
    which = -(met * np.log2(met) + (1 - met) * np.log2(1 - met)).sum()
    count = met.sum()
    order = math.lgamma(count + 1) / math.log(2)
    return float((which + order) / count / 8)


def measure_in(folder: Path, count: int) -> dict[str, float]:
    batches = [np.unique(ids) for ids in skewed_minibatches(count, ROWS, WANTED)]
    order = np.random.default_rng(2)
    for ids in batches:
        order.shuffle(ids)
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
        cpu = recorder_seconds() / count
    (path,) = folder.glob("*.trace")
    case = load_case(path)
    assert case.live is not None
    moved, wanted = replay_live(case.live)["rows_moved"], recorded.metrics().rows_moved
    assert moved == wanted, (moved, wanted)
    ratios = [with_it / without - 1 for without, with_it in zip(turns[False], turns[True])]
    low, high = interval_of_median(ratios)
    return {
        "step_ms": statistics.median(turns[False]) / TURN * 1e3,
        "step_recorded_ms": statistics.median(turns[True]) / TURN * 1e3,
        "added_share": statistics.median(ratios),
        "added_share_low": low,
        "added_share_high": high,
        "recorder_cpu_ms": cpu * 1e3,
        "bytes_per_access": os.path.getsize(path) / len(case.ids),
        "entropy_bytes": entropy_bytes(),
    }


def measure(count: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        return measure_in(Path(folder), count)


def verdict(result: dict[str, float]) -> str:
    low, high = result["added_share_low"], result["added_share_high"]
    met = "met" if high <= GOAL else "missed" if low > GOAL else "not decided"
    return f"{result['added_share']:.2%} of a step ({low:.2%} to {high:.2%}; goal, at most {GOAL:.0%}: {met})"


if __name__ == "__main__":
    run(__doc__, "--steps", 1500, measure, verdict)
