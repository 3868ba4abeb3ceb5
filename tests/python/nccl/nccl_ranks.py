"""What the tests of the exchange share, here and in the processes that they start."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import numpy as np


class ThreadStore:
    """A store for ranks that are threads."""

    def __init__(self) -> None:
        self._held: dict[str, bytes] = {}
        self._changed = threading.Condition()

    def set(self, key: str, value: bytes) -> None:
        with self._changed:
            self._held[key] = value
            self._changed.notify_all()

    def get(self, key: str) -> bytes:
        with self._changed:
            assert self._changed.wait_for(lambda: key in self._held, timeout=60)
            return self._held[key]


def pinned_array(library: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Pinned memory of the fake CUDA runtime."""
    pin = ctypes.CDLL(library).cudaHostAlloc
    return _array(lambda address, size: pin(address, size, 0), shape, dtype)


def gpu_array(library: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Device memory of the fake CUDA runtime, which is this process's own."""
    return _array(ctypes.CDLL(library).cudaMalloc, shape, dtype)


def _array(allocate: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    address = ctypes.c_void_p()
    size = max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
    allocate(ctypes.byref(address), ctypes.c_size_t(size))
    memory = (ctypes.c_char * size).from_address(address.value or 0)
    return np.frombuffer(memory, dtype=dtype, count=int(np.prod(shape))).reshape(shape)


def run_ranks(ranks: int, body: Callable[[int], Any]) -> list[Any]:
    """What each rank's body returns, each on a thread; raises the first error."""
    results: list[Any] = [None] * ranks
    errors: list[BaseException] = []

    def run(rank: int) -> None:
        try:
            results[rank] = body(rank)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
