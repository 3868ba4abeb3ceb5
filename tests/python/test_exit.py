"""A script may end while rows are on their way: its process ends with 0, and no thread outlives Python."""

from __future__ import annotations

import subprocess
import sys

import pytest

# A pull sleeps while the script ends; the buffer's metrics are computed by a thread until the very end.
SCRIPT = """
import atexit, sys, threading, time
# Registered first, so called last: a thread that comes back to Python any later ends the process.
atexit.register(lambda: print([each.name for each in threading.enumerate() if "rudder" in each.name]))
import numpy as np
from rudder import ArraySource, Options, Plan, Prefetcher
from rudder.source import pull_routes

pulling, waiting = threading.Event(), threading.Event()
wait_for_room = Prefetcher.wait_for_room

def linger(self, seconds):
    waiting.set()
    time.sleep(1.0)
    return wait_for_room(self, 0.0)

Prefetcher.wait_for_room = linger

class Slow(ArraySource):
    def pull(self, ids):
        if ids.max() >= 3000:
            pulling.set()
            time.sleep(0.3)
        return super().pull(ids)

    def routes(self, table):
        return pull_routes(self, table)

rows = np.arange(16000).reshape(4000, 4)
plan = Plan(interval=4, window=1, depth=1)
table = Prefetcher(Slow(rows, [0, 1000, 4000]), Options(capacity=500, plan=plan, prior="none"))
# More than the window takes: the sampling thread waits for room.
feed = iter(table.iterate([np.arange(1000, 1100)] + [np.arange(3000, 3100)] * 20))
ids = next(feed)
assert (table[ids] == rows[ids]).all()
assert pulling.wait(60)
if sys.argv[1] == "closed":
    table.close()
elif sys.argv[1] == "dropped":
    del table, feed
elif sys.argv[1] == "unfed":
    table.close()
    assert waiting.wait(60)
    del feed
print("the end")
"""


@pytest.mark.parametrize("table", ["closed", "dropped", "unfed", "open"])
def test_a_pull_in_progress_does_not_crash_the_end(table: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", SCRIPT, table],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "the end\n[]\n"), ended.stderr
