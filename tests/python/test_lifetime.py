"""Orderly ends: what fails still writes its last metrics, whatever hangs beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from rudder import lifetime

SCRIPT = """
import sys, threading
import numpy as np
from rudder import ArraySource, Options, Prefetcher, lifetime

class Hanging:
    def close(self):
        threading.Event().wait()

hanging = Hanging()
lifetime.register_loader(hanging)
table = Prefetcher(ArraySource(np.ones((10, 4)), [0, 5, 10]), Options(prior="none", metrics_dir=sys.argv[1]))
table[[9]]
raise ValueError("the script's own")
"""


FORKS = """
import os, sys
import numpy as np
from rudder import ArraySource, Options, Prefetcher

table = Prefetcher(ArraySource(np.ones((10, 4)), [0, 5, 10]), Options(prior="none"))
table[[9]]
child = os.fork()
if child == 0:
    sys.exit(7)  # runs its exit functions, without the parent's threads
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert (np.asarray(table[[9]]) == 1).all()
print("open still")
"""


def test_a_forked_child_leaves_what_is_open_to_its_parent() -> None:
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "open still\n"), done.stderr


def test_a_failed_script_leaves_a_summary_that_says_so(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    parent = "import os, subprocess, sys; os.environ['RUDDER_PARENT'] = str(os.getpid());" + (
        "sys.exit(subprocess.run([sys.executable, '-m', 'rudder.launch.child', *sys.argv[1:]]).returncode)"
    )
    done = subprocess.run(
        [sys.executable, "-c", parent, str(script), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    assert "the script's own" in done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["state"] == "failed"
    assert summary["total"]["rows_moved"] == 1


def test_connections_are_closed_after_what_uses_them() -> None:
    closed: list[str] = []

    class Thing:
        def __init__(self, name: str) -> None:
            self.name = name

        def close(self) -> None:
            closed.append(self.name)

    connection, table, loader = Thing("connection"), Thing("table"), Thing("loader")
    lifetime.register_connection(connection)
    lifetime.register_table(table)
    lifetime.register_loader(loader)
    lifetime.close_all()
    assert [name for name in closed if name in ("connection", "table", "loader")] == [
        "loader",
        "table",
        "connection",
    ]
