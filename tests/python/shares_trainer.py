"""A trainer of a host with others, driven by a test: `python shares_trainer.py RANK ROWS_OF_WORKING_SET`.

Each line on standard input is a number of minibatches to train on; the answer is a line of JSON about them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np

from rudder import ArraySource, Options, Plan, Prefetcher
from rudder._core import Transport
from rudder.source import Bytes, Ids, pull_routes

ROWS, LOCAL, CAPACITY, INTERVAL = 6000, 1000, 800, 16
# Of a row on the link: what a trainer waits for that fetches in every minibatch.
ROW_S = 0.0002


class Slow(ArraySource):
    """Rows of other partitions come one after another, over a slow link."""

    def pull(self, ids: Ids) -> Bytes:
        time.sleep(ROW_S * len(ids))
        return super().pull(ids)

    def routes(self, table: int) -> Sequence[Sequence[Transport]]:
        return pull_routes(self, table)


def minibatches(rank: int, working_set: int) -> Iterator[np.ndarray]:
    """The same for the same trainer in every run."""
    rng = np.random.default_rng(rank)
    while True:
        yield LOCAL + rng.choice(working_set, 150, replace=False)


def main() -> None:
    rank, working_set = int(sys.argv[1]), int(sys.argv[2])
    rows = np.random.default_rng(7).integers(0, 1 << 30, (ROWS, 64))
    options = Options(
        capacity=CAPACITY,
        plan=Plan(interval=INTERVAL, window=1, depth=1),
        prior="none",
        controller=os.environ.get("CONTROLLER", "shadow"),
        shadow_share=1.0,
        rank=rank,
    )
    with Prefetcher(Slow(rows, [0, LOCAL, ROWS], name="x"), options) as table:
        feed = iter(table.iterate(minibatches(rank, working_set)))
        print(json.dumps({"most_rows": table.capacity_rows}), flush=True)
        for line in sys.stdin:
            before = table.metrics()
            for _ in range(int(line)):
                ids = next(feed)
                assert (table[ids] == rows[ids]).all()
            after = table.metrics()
            told = {
                "share": table.plan.share,
                "capacity_rows": after.capacity_rows,
                "rows_moved": after.rows_moved - before.rows_moved,
                "fetches_failed": after.fetches_failed,
            }
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
