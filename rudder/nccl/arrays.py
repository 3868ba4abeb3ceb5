"""Rows in torch tensors and numpy arrays, as addresses: torch stays on this side of the core."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rudder.errors import ConfigError


class Rows:
    """A contiguous tensor or array [n, ...], seen as n rows of bytes. It keeps its memory alive."""

    def __init__(self, array: Any) -> None:
        """``array``: torch's or numpy's. Raises ConfigError where its rows do not follow each other."""
        self.array = array
        self.is_torch = hasattr(array, "data_ptr")
        contiguous = array.is_contiguous() if self.is_torch else array.flags.c_contiguous
        if array.ndim < 1 or not contiguous:
            raise ConfigError("rows must lie contiguously in memory, in at least one dimension")
        self.count = len(array)
        item = array.element_size() if self.is_torch else array.dtype.itemsize
        self.row_bytes = item * int(np.prod(array.shape[1:], dtype=np.int64))
        self.address = array.data_ptr() if self.is_torch else array.ctypes.data

    def settle(self, device: int) -> None:
        """Wait until what was queued to write these rows is done, so that any stream may read them.

        Raises ConfigError where they lie on another GPU than ``device``.
        """
        if not (self.is_torch and self.array.is_cuda):
            return
        import torch

        if self.array.device.index != device:
            raise ConfigError(f"the shard lies on {self.array.device}, the exchange is on GPU {device}")
        torch.cuda.current_stream(device).synchronize()

    def empty(self, rows: int, device: int, pinned: bool) -> Any:
        """Memory for so many rows of this kind, on the GPU or pinned. Raises ConfigError without torch.

        On the GPU it comes from a stream of its own: that of the model, which is always behind, does not hold
        it up.
        """
        try:
            import torch
        except ImportError as error:
            raise ConfigError("without torch, give start() and rows() pinned memory as `out`") from error
        kind = self.array.dtype if self.is_torch else torch.from_numpy(self.array[:0]).dtype
        shape = (rows, *self.array.shape[1:])
        if pinned:
            return torch.empty(shape, dtype=kind, pin_memory=True)
        with torch.cuda.stream(_stream(device)):
            return torch.empty(shape, dtype=kind, device=f"cuda:{device}")

    def none(self) -> Any:
        """No rows of this kind."""
        return self.array[:0]

    def stream(self) -> int | None:
        """The stream with the caller's latest work on this memory; None for memory that no GPU owns."""
        if not (self.is_torch and self.array.is_cuda):
            return None
        import torch

        return int(torch.cuda.current_stream(self.array.device).cuda_stream)


_streams: dict[int, Any] = {}


def _stream(device: int) -> Any:
    """torch's stream whose memory pool the destinations on a GPU come from."""
    import torch

    make: Any = torch.cuda.Stream  # untyped
    if device not in _streams:
        _streams.setdefault(device, make(device))  # another thread may have been quicker
    return _streams[device]


def hand_over(rows: Any) -> Any:
    """Rows that are in place, for the present stream: their memory is not used again before it is done."""
    if hasattr(rows, "data_ptr") and rows.is_cuda:
        import torch

        rows.record_stream(torch.cuda.current_stream(rows.device))
    return rows


def take(rows: Any, positions: NDArray[np.int64]) -> Any:
    """Rows in another order, where they are. Those on a GPU are copied in the present stream, without a wait:
    CUDA would make the CPU wait for a copy from memory that is not pinned.
    """
    if not hasattr(rows, "data_ptr"):
        return rows[positions]
    import torch

    order = torch.from_numpy(positions)
    if rows.is_cuda:
        order = order.pin_memory().to(rows.device, non_blocking=True)
    return rows.index_select(0, order)
