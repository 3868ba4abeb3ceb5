"""What `feats[ids]` costs once every row is here, against plain `torch.index_select` of the same rows.

Three ways to the same batch, in alternating runs with the same number of threads: index_select over a tensor
of all rows; the rows of a minibatch that was submitted (take + gather into a fresh tensor, as an attached
tensor does it); and the rows of ids that no minibatch announced. Every row is compared.

Goal: at most 1.3x of index_select. Run: make bench-python, or

    python benchmarks/feats_bench.py --row-bytes 512 1536 --json results.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rudder import ArraySource, Options, Plan, Prefetcher

GOAL = 1.3
WAYS = ("index_select", "prefetched", "unplanned")


def open_table(rows: torch.Tensor, threads: int) -> Prefetcher:
    """Every row is a peer's, all of them fit into the buffer, and no steering falls into a timed run."""
    plan = Plan(interval=4096)
    return Prefetcher(
        ArraySource(rows.numpy(), [0, 0, len(rows)]),
        Options(capacity=1.0, prior="none", plan=plan, threads=threads),
    )


def bytes_of(out: torch.Tensor) -> np.ndarray:
    return out.numpy().view(np.uint8).reshape(len(out), -1)


def fill(table: Prefetcher, rows: int, batch: int) -> None:
    for first in range(0, rows, batch):
        ids = np.arange(first, min(first + batch, rows), dtype=np.int64)
        table.announce(table.submit(ids))
        table[ids]
    table.finish_epoch()


def timed(way: Callable[[Any], torch.Tensor], ids: Any) -> tuple[float, torch.Tensor]:
    began = time.perf_counter()
    out = way(ids)
    return time.perf_counter() - began, out


def measure(row_bytes: int, rows: int, batch: int, runs: int, threads: int) -> dict[str, float]:
    """Medians in milliseconds a batch, and their ratios. Raises AssertionError where a row differs."""
    generator = torch.Generator().manual_seed(7)
    features = torch.randn((rows, row_bytes // 4), generator=generator)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    with open_table(features, threads) as table:
        fill(table, rows, batch)
        before = table.metrics().rows_moved

        def select(ids: torch.Tensor) -> torch.Tensor:
            return torch.index_select(features, 0, ids)

        def fresh(ids: np.ndarray) -> torch.Tensor:
            out = torch.empty((len(ids), features.shape[1]), dtype=features.dtype)
            table.read_into(ids, bytes_of(out))
            return out

        for run in range(runs + 2):  # the first two warm up
            taken: dict[str, tuple[float, torch.Tensor]] = {}
            ids = torch.randint(0, rows, (batch,), generator=generator)
            asked = ids.numpy()
            # Whoever comes later may find ids and rows in a cache: everybody comes first in turn.
            for way in WAYS[run % 3 :] + WAYS[: run % 3]:
                if way == "index_select":
                    taken[way] = timed(select, ids)
                elif way == "prefetched":
                    planned = table.metrics().ids_requested
                    table.announce(table.submit(asked))
                    await_planned(table, planned + batch)
                    taken[way] = timed(fresh, asked)
                    table.finish_epoch()
                else:
                    taken[way] = timed(fresh, asked)
            wanted = bytes_of(taken["index_select"][1])
            for way in WAYS[1:]:
                assert np.array_equal(bytes_of(taken[way][1]), wanted), f"{way}: rows differ"
            if run >= 2:
                for way in WAYS:
                    seconds[way].append(taken[way][0])
        assert table.metrics().rows_moved == before, "a row was fetched although all were here"
    medians = {way: statistics.median(values) * 1e3 for way, values in seconds.items()}
    ratios = {f"{way}_ratio": medians[way] / medians["index_select"] for way in WAYS[1:]}
    return {"row_bytes": row_bytes, **medians, **ratios}


def await_planned(table: Prefetcher, ids: int) -> None:
    """Wait until minibatches of so many ids were planned: a loader submits them long before asked."""
    while table.metrics().ids_requested < ids:
        time.sleep(0.001)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--row-bytes", type=int, nargs="+", default=[512, 1536], help="multiples of 4")
    parser.add_argument("--rows", type=int, default=400_000, help="of the table")
    parser.add_argument("--batch", type=int, default=100_000, help="rows a batch")
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("--threads", type=int, default=1, help="of both sides")
    parser.add_argument("--json", type=Path, help="write the results here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(
        f"{args.batch} of {args.rows} rows, {args.threads} threads, medians of {args.runs} alternating runs"
    )
    print(f"{'row bytes':>9} {'index_select':>13} {'prefetched':>18} {'unplanned':>18}   goal {GOAL}x")
    results = []
    for row_bytes in args.row_bytes:
        result = measure(row_bytes, args.rows, args.batch, args.runs, args.threads)
        results.append(result)
        cells = [f"{result[way]:8.1f} ms {result[way + '_ratio']:5.2f}x" for way in WAYS[1:]]
        print(f"{row_bytes:>9} {result['index_select']:>10.1f} ms {cells[0]:>18} {cells[1]:>18}", flush=True)
    if args.json:
        report = {
            "goal": GOAL,
            "rows": args.rows,
            "batch": args.batch,
            "threads": args.threads,
            "runs": args.runs,
            "results": results,
        }
        args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
