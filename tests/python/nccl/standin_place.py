"""The place of a rank whose GPU is the stand-in's: memory of the fake CUDA runtime, seen as numpy arrays."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from nccl_ranks import gpu_array, pinned_array

from rudder.bench.gpu import WallTimer


class StandInPlace:
    timed_by = "wall clock"

    def __init__(self, local_rank: int) -> None:
        self.device = local_rank
        self.timer = WallTimer()
        self._library = os.environ["RUDDER_CUDART_LIBRARY"]

    def why_not(self) -> str | None:
        return None

    def hold(self, rows: np.ndarray, where: str) -> np.ndarray:
        make = gpu_array if where == "on the GPU" else pinned_array
        held = make(self._library, rows.shape, rows.dtype)
        held[:] = rows
        return held

    def empty(self, rows: int, row_bytes: int) -> np.ndarray:
        return gpu_array(self._library, (rows, row_bytes), np.uint8)

    def fill(self, rows: np.ndarray, value: int) -> None:
        rows[:] = value

    def bytes_of(self, rows: Any) -> np.ndarray:
        return np.array(rows)
