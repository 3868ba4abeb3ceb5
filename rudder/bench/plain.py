"""Rows gathered from this process's own memory by a plain copy: as fast as rows can be had by one thread."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rudder.source import Bytes, Ids


class PlainGather:
    """Copies rows out of tables; also knows what every row should be."""

    def __init__(self, tables: Sequence[Bytes]) -> None:
        """``tables``: of each peer, uint8 [rows, row_bytes]."""
        self._tables = tables
        self._ways: dict[str, Callable[[int, Ids, Bytes], Any]] = {"numpy.take": self._numpy}
        if importlib.util.find_spec("torch") is not None:
            import torch

            torch.set_num_threads(1)
            self._torch, self._tensors = torch, [torch.from_numpy(table) for table in tables]
            self._ways["torch.index_select"] = self._index_select
        #: The way in use; `choose` finds the faster one.
        self.way = "numpy.take"

    def choose(self, rows: Ids, out: Bytes, peers: int) -> str:
        """Try every way on these requests, and keep the fastest."""
        seconds = {}
        for way in self._ways:
            self.way = way
            self.gather(rows, out, peers)  # the first touch maps pages
            seconds[way] = min(self.gather(rows, out, peers) for _ in range(3))
        self.way = min(seconds, key=seconds.__getitem__)
        return self.way

    def gather(self, rows: Ids, out: Bytes, peers: int) -> float:
        """Seconds for requests (int64 [requests, n]) of the first ``peers`` tables into ``out``."""
        copy = self._ways[self.way]
        requests, width = rows.shape
        columns = list(enumerate(column_ranges(width, peers)))
        began = time.perf_counter()
        for r in range(requests):
            for peer, (begin, end) in columns:
                copy(peer, rows[r, begin:end], out[r * width + begin : r * width + end])
        return time.perf_counter() - began

    def same(self, rows: Ids, out: Bytes, peers: int) -> bool:
        """Whether ``out`` holds these rows, byte for byte."""
        requests, width = rows.shape
        for r in range(requests):
            for peer, (begin, end) in enumerate(column_ranges(width, peers)):
                got = out[r * width + begin : r * width + end]
                if not np.array_equal(got, self._tables[peer][rows[r, begin:end]]):
                    return False
        return True

    def _numpy(self, peer: int, rows: Ids, out: Bytes) -> None:
        # "clip", since "raise" copies twice; the rows are in range.
        np.take(self._tables[peer], rows, axis=0, out=out, mode="clip")

    def _index_select(self, peer: int, rows: Ids, out: Bytes) -> None:
        torch = self._torch
        torch.index_select(self._tensors[peer], 0, torch.from_numpy(rows), out=torch.from_numpy(out))


def column_ranges(width: int, peers: int) -> list[tuple[int, int]]:
    """Which columns of a request each peer answers; as TransportProbe has them. Empty ones are left out."""
    sizes = [width // peers + (peer < width % peers) for peer in range(peers)]
    ends = np.cumsum(sizes).tolist()
    return [(end - size, end) for size, end in zip(sizes, ends) if size]
