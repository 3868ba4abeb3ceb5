"""Tables whose every byte follows from a seed: whoever knows the seed can check a row without the table."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rudder.source import Bytes, Ids

# SplitMix64: a counter through a finalizer that changes half of the bits for every bit that changes.
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
# Words made at a time: temporaries stay in the cache.
_CHUNK_WORDS = 1 << 17


def table_name(seed: int, peer: int, rows: int, row_bytes: int) -> str:
    """Name of a peer's table; its content follows from it."""
    return f"bench.{seed}.{peer}.{rows}x{row_bytes}"


def fill(out: Bytes, seed: int, peer: int) -> Bytes:
    """Write a peer's table into ``out`` (uint8 [rows, row_bytes], C-contiguous), and return it."""
    rows, row_bytes = out.shape
    step = max(1, _CHUNK_WORDS * 8 // row_bytes)
    for first in range(0, rows, step):
        last = min(first + step, rows)
        out[first:last] = rows_at(np.arange(first, last), row_bytes, seed, peer)
    return out


def rows_at(numbers: Ids, row_bytes: int, seed: int, peer: int) -> Bytes:
    """These rows of a peer's table, as `fill` writes them: uint8 [n, row_bytes]."""
    words = -(-row_bytes // 8)  # of a row; the last may be cut
    start = _mix(np.array([seed], dtype=np.uint64) * _GAMMA + np.uint64(peer + 1))[0]
    counter = (numbers[:, None] * words + np.arange(words)).astype(np.uint64).reshape(-1)
    made = _mix(counter * _GAMMA + start).view(np.uint8).reshape(len(numbers), words * 8)
    return made[:, :row_bytes]


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * _MIX[0]
    z = (z ^ (z >> np.uint64(27))) * _MIX[1]
    mixed: NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return mixed
