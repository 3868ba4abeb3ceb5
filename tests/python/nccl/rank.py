"""One rank of a job: trades rows, checks every one, and says how it ended. Started by conftest.Job."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
from nccl_ranks import pinned_array  # beside this script

import rudder.nccl
from rudder.errors import RudderError

ROWS, WIDTH = 400, 33


class FolderStore:
    """A store of files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def set(self, key: str, value: bytes) -> None:
        path = self._folder / key.replace("/", "-")
        partial = path.with_suffix(".partial")
        partial.write_bytes(value)
        partial.rename(path)

    def get(self, key: str) -> bytes:
        path = self._folder / key.replace("/", "-")
        until = time.monotonic() + 60
        while not path.exists():
            if time.monotonic() > until:
                raise TimeoutError(f"no {path}")
            time.sleep(0.005)
        return path.read_bytes()


def main(folder: Path, rank: int, ranks: int) -> dict[str, object]:
    rows = np.random.default_rng(3).integers(0, 256, (ROWS, WIDTH), dtype=np.uint8)
    starts = [0, *(np.arange(1, ranks) * 70 + 11).tolist(), ROWS]
    minibatches = int(os.environ["MINIBATCHES"].split(",")[rank])
    killed, after = (int(part) for part in os.environ.get("KILL", "-1,0").split(","))
    random = np.random.default_rng(rank)
    exchange = rudder.nccl.Exchange(
        FolderStore(folder), rank, ranks, rows[starts[rank] : starts[rank + 1]],
        device=rank, deadline_s=float(os.environ.get("DEADLINE_S", "60")),
    )  # fmt: skip
    print("joined", flush=True)
    began = time.monotonic()
    try:
        for number in range(minibatches):
            if rank == killed and number == after:
                os.kill(os.getpid(), signal.SIGKILL)
            ids = random.integers(0, ROWS, random.integers(0, 300))
            out = pinned_array(os.environ["RUDDER_CUDART_LIBRARY"], (len(ids), WIDTH), np.uint8)
            began = time.monotonic()
            np.testing.assert_array_equal(exchange.rows(ids, out), rows[ids])
        drained = exchange.drain()
        exchange.close()
        return {"ended": "well", "drained": drained, **exchange.stats()}
    except RudderError as error:
        spent = time.monotonic() - began
        part = getattr(error, "part", None)
        return {"ended": type(error).__name__, "part": part, "why": str(error), "seconds": spent}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))), flush=True)
