"""Metrics on disk: one JSON-lines file per rank and tensor, and one `summary.json` for the whole run.

Several ranks, on several machines, may share one folder. Each writes `rank-<r>.<tensor>.jsonl`, where a
controller steers `decisions-<r>.<tensor>.jsonl` (see `rudder.decisions`), and its own
`rank-<r>.summary.json`; whoever writes last merges these into `summary.json`. Summaries are written at
every interval's end, so that a killed run leaves one whose `state` is "running".

A folder may be used again: a launcher clears it first, and only summaries of one run are merged, so that
what another run left on a machine that the launcher cannot clear does not count.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rudder.config import ENV_RUN
from rudder.metrics import SCHEMA, total

#: Files of a tensor: what each interval measured, and what each decision was.
METRICS, DECISIONS = "rank", "decisions"
_RANKS = "rank-*.summary.json"
_UNSAFE = re.compile(r"[^A-Za-z0-9_.+-]+")


@functools.cache
def run_folder(path: Path, rank: int) -> RunFolder:
    """The folder of that path and rank: one object for all tensors of this process."""
    return RunFolder(path, rank, os.environ.get(ENV_RUN, ""))


class RunFolder:
    """Writes one rank's metrics. Thread-safe."""

    def __init__(self, path: Path, rank: int, run: str = "") -> None:
        """Create the folder where it is missing; ``run`` is the same for all ranks of a run and no other.

        Raises OSError where it cannot be written.
        """
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.rank = rank
        self.run = run
        self._lock = threading.Lock()
        self._tensors: dict[str, dict[str, Any]] = {}
        self._fresh: set[str] = set()

    def append(self, tensor: str, kind: str, values: dict[str, Any], *, file: str = METRICS) -> None:
        """Add one line to the tensor's METRICS or DECISIONS; the first one starts that file anew."""
        name = f"{file}-{self.rank}.{_UNSAFE.sub('_', tensor)}.jsonl"
        line = json.dumps({"schema": SCHEMA, "kind": kind, **values}) + "\n"
        with self._lock:
            mode = "a" if name in self._fresh else "w"
            self._fresh.add(name)
            with (self.path / name).open(mode, encoding="utf-8") as lines:
                lines.write(line)

    def summarise(self, tensor: str, state: str, values: dict[str, Any]) -> None:
        """Record a tensor's totals (`state`: "running", "finished", "failed") and merge all summaries."""
        with self._lock:
            self._tensors[tensor] = {"state": state, **values}
            own = {"schema": SCHEMA, "run": self.run, "rank": self.rank, "tensors": self._tensors}
            _write_whole(self.path / f"rank-{self.rank}.summary.json", own)
            with _locked(self.path):
                _write_whole(self.path / "summary.json", merge(self.path, self.run))


def clear(folder: Path) -> None:
    """Remove the metrics of an earlier run, whose ranks may be more than the next one's. Raises OSError."""
    for pattern in (f"{METRICS}-*.jsonl", f"{DECISIONS}-*.jsonl", _RANKS, "summary.json"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def merge(folder: Path, run: str = "") -> dict[str, Any]:
    """The summary of a run: every rank's tensors, and all of them together."""
    paths = sorted(folder.glob(_RANKS), key=lambda path: (len(path.name), path.name))
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    ranks = [rank for rank in found if rank.get("run", "") == run]
    tensors = [tensor for rank in ranks for tensor in rank["tensors"].values()]
    states = {tensor["state"] for tensor in tensors}
    state = next((name for name in ("failed", "running") if name in states), "finished")
    return {"schema": SCHEMA, "run": run, "state": state, "total": total(tensors), "ranks": ranks}


def _write_whole(path: Path, value: dict[str, Any]) -> None:
    """Readers see the old file or the new one, never half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time merges; the lock is on the folder itself and goes with the process."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
