"""A script may end while rows are on their way: its process ends with 0."""

from __future__ import annotations

import subprocess
import sys

import pytest

# A pull sleeps while the script ends; the buffer's metrics are computed by a thread until the very end.
SCRIPT = """
import sys, threading, time
import numpy as np
from rudder import ArraySource, Options, Plan, Prefetcher
from rudder.source import pull_routes

pulling = threading.Event()

class Slow(ArraySource):
    def pull(self, ids):
        if ids.max() >= 3000:
            pulling.set()
            time.sleep(0.3)
        return super().pull(ids)

    def routes(self, table):
        return pull_routes(self, table)

rows = np.arange(16000).reshape(4000, 4)
table = Prefetcher(Slow(rows, [0, 1000, 4000]), Options(capacity=500, plan=Plan(interval=4), prior="none"))
feed = iter(table.iterate([np.arange(1000, 1100), np.arange(3000, 3100), np.arange(3100, 3200)]))
ids = next(feed)
assert (table[ids] == rows[ids]).all()
assert pulling.wait(60)
if sys.argv[1] == "closed":
    table.close()
elif sys.argv[1] == "dropped":
    del table, feed
print("the end")
"""


@pytest.mark.parametrize("table", ["closed", "dropped", "open"])
def test_a_pull_in_progress_does_not_crash_the_end(table: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", SCRIPT, table],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "the end\n"), ended.stderr
