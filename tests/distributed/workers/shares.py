"""Trainers that share the memory of their host, without DGL."""

import os
import time
from pathlib import Path

import numpy as np

from rudder import ArraySource, Options, Plan, Prefetcher
from rudder.share_board import Board

host = int(os.environ["RUDDER_HOST"])
rank = int(os.environ["RANK"])
rows = np.arange(8000, dtype=np.float32).reshape(2000, 4)
options = Options(capacity=400, plan=Plan(interval=4, prior="none"), prior="none", rank=rank)
with Prefetcher(ArraySource(rows, [0, 500, 2000], name="x"), options) as table:
    board = Board(Path(os.environ["RUDDER_SHARES"] + ".x"), rank)
    while len(board.members()) < int(os.environ["LOCAL_WORLD_SIZE"]):
        time.sleep(0.02)
    rng = np.random.default_rng(rank)
    for ids in table.iterate([rng.integers(0, 2000, 50) for _ in range(20)]):
        assert (table[ids] == rows[ids]).all()
    print(f"host {host} shares among {sorted(board.members())}", flush=True)
