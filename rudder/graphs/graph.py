"""The graph that loaders and generators hand to the partitioner: plain arrays, no DGL, no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rudder.distinct import distinct
from rudder.errors import FormatError

TRAIN, VALIDATION, TEST, UNSPLIT = 0, 1, 2, -1


@dataclass(frozen=True)
class Graph:
    """A homogeneous graph in coordinate form, immutable (its views of the arrays are read-only).

    src, dst: int32 or int64 [arcs]; an arc src -> dst carries a message from src to dst.
    feat:     float [num_nodes, dim] or None.
    label:    int [num_nodes], one class per node from 0, or None. -1 means "no label".
    split:    int8 [num_nodes]: 0 train, 1 validation, 2 test, -1 none of them; or None.
    directed: False where both directions of every edge are stored.

    Raises FormatError where shapes disagree or an id lies outside [0, num_nodes).
    """

    name: str
    src: NDArray[np.integer]
    dst: NDArray[np.integer]
    num_nodes: int
    directed: bool = False
    feat: NDArray[np.floating] | None = None
    label: NDArray[np.integer] | None = None
    split: NDArray[np.int8] | None = None

    def __post_init__(self) -> None:
        """Check what would otherwise fail far from its cause."""
        n = self.num_nodes
        if n <= 0:
            raise FormatError(f"graph '{self.name}': num_nodes is {n}; a graph needs at least one node")
        if self.src.ndim != 1 or self.src.shape != self.dst.shape:
            raise FormatError(
                f"graph '{self.name}': src {self.src.shape} and dst {self.dst.shape} must be "
                "one-dimensional and equally long"
            )
        for key, ids in (("src", self.src), ("dst", self.dst)):
            if not np.issubdtype(ids.dtype, np.integer):
                raise FormatError(f"graph '{self.name}': {key} has dtype {ids.dtype}; node ids are integers")
            if len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= n):
                raise FormatError(
                    f"graph '{self.name}': {key} holds ids in [{ids.min()}, {ids.max()}], outside [0, {n})"
                )
        for key, rows in (("feat", self.feat), ("label", self.label), ("split", self.split)):
            if rows is not None and (rows.ndim != (2 if key == "feat" else 1) or len(rows) != n):
                raise FormatError(
                    f"graph '{self.name}': {key} has shape {rows.shape}, but there are {n} nodes"
                )
        if self.label is not None and not np.issubdtype(self.label.dtype, np.integer):
            raise FormatError(
                f"graph '{self.name}': label has dtype {self.label.dtype}; classes are integers"
            )
        for key in ("src", "dst", "feat", "label", "split"):
            array = getattr(self, key)
            if array is not None:
                # A view: the caller's own array stays as writable as it was.
                array = array.view()
                array.setflags(write=False)
                object.__setattr__(self, key, array)

    @property
    def num_arcs(self) -> int:
        """Arcs stored: twice the edges (but once per self-loop) where the graph is undirected."""
        return len(self.src)

    @property
    def num_classes(self) -> int:
        """Highest class + 1; 0 without labels."""
        return 0 if self.label is None or not len(self.label) else int(self.label.max()) + 1

    def mask(self, part_of_split: int) -> NDArray[np.bool_]:
        """Nodes of a part of the split (TRAIN, VALIDATION, TEST); all False without a split."""
        if self.split is None:
            return np.zeros(self.num_nodes, dtype=np.bool_)
        mask: NDArray[np.bool_] = self.split == part_of_split
        return mask

    @property
    def train_mask(self) -> NDArray[np.bool_]:
        """Nodes that are trained on."""
        return self.mask(TRAIN)

    def bidirected(self) -> Graph:
        """The same graph with both directions of every arc, each once; itself where it has them already."""
        if not self.directed:
            return self
        n = self.num_nodes
        src, dst = self.src.astype(np.int64), self.dst.astype(np.int64)
        keys = distinct(np.concatenate([src * n + dst, dst * n + src]))
        return replace(self, src=keys // n, dst=keys % n, directed=False)

    def with_self_loops(self, mode: str) -> Graph:
        """`keep` what there is, `drop` all self-loops, or `add` exactly one per node."""
        if mode == "keep":
            return self
        proper = self.src != self.dst
        src, dst = self.src[proper], self.dst[proper]
        if mode == "add":
            loops = np.arange(self.num_nodes, dtype=self.src.dtype)
            src, dst = np.concatenate([src, loops]), np.concatenate([dst, loops.astype(self.dst.dtype)])
        return replace(self, src=src, dst=dst)
