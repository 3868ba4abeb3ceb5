"""Neighbour sampling by one trainer of a partitioned, generated graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rudder.graphs.generate import generate
from rudder.trace import Worth
from rudder.vip import Relation, vip

_CLASSES = 16
# Of a sliding training set: how much of the train nodes it covers at a time.
_COVERED = 0.35


@dataclass(frozen=True)
class PartitionedGraph:
    """In-edges of every node, and who is remote."""

    indptr: NDArray[np.int64]
    indices: NDArray[np.int64]
    remote: NDArray[np.bool_]
    #: Train nodes of this trainer; those near each other in the list are near each other in the graph.
    train: NDArray[np.int64]

    @property
    def size(self) -> int:
        """Nodes."""
        return len(self.indptr) - 1


def make_graph(chance: np.random.Generator, held_out: bool) -> PartitionedGraph:
    """A power-law community graph, of which this trainer's partition holds some classes."""
    nodes = int(chance.integers(22_000, 32_000) if held_out else chance.integers(8_000, 20_000))
    arcs = nodes * int(chance.integers(12, 24) if held_out else chance.integers(8, 20))
    made = generate(
        nodes,
        arcs,
        feature_dim=1,
        num_classes=_CLASSES,
        train_fraction=0.6,
        seed=int(chance.integers(1 << 31)),
    )
    assert made.label is not None
    # Classes are what a partitioner would keep together; wrong labels are its cut.
    part = made.label % int(chance.choice((2, 4, 8)))
    train = np.flatnonzero((part == 0) & made.mask(0))
    return PartitionedGraph(
        np.concatenate(([0], np.cumsum(np.bincount(made.dst, minlength=nodes)))).astype(np.int64),
        made.src[np.argsort(made.dst, kind="stable")].astype(np.int64),
        part != 0,
        train[np.argsort(made.label[train], kind="stable")],
    )


class TrainSet:
    """Which nodes are trained on when."""

    def __init__(self, kind: str, graph: PartitionedGraph, length: int, chance: np.random.Generator) -> None:
        """``length``: minibatches of the workload."""
        self._kind, self._train, self._length = kind, graph.train, length
        #: Minibatches at which a prior computed anew would differ.
        self.changes: list[int] = []
        if kind == "phases":
            count = int(chance.integers(2, 4))
            self._parts = np.array_split(graph.train, count)
            self.changes = [length * place // count for place in range(1, count)]
        elif kind == "sliding":
            self.changes = list(range(length // 16, length, length // 16))

    def members(self, minibatch: int) -> NDArray[np.int64]:
        """Nodes that are trained on around this minibatch."""
        if self._kind == "phases":
            return self._parts[int(np.searchsorted(self.changes, minibatch, side="right"))]
        if self._kind == "sliding":
            size = len(self._train)
            begin = int(size * (1 - _COVERED) * minibatch / self._length)
            return self._train[begin : begin + max(1, int(size * _COVERED))]
        return self._train

    def draw(self, minibatch: int, batch: int, chance: np.random.Generator) -> NDArray[np.int64]:
        """Seeds of one minibatch."""
        members = self.members(minibatch)
        return chance.choice(members, min(batch, len(members)), replace=False)


def sample(
    graph: PartitionedGraph, seeds: NDArray[np.int64], fanouts: Sequence[int], chance: np.random.Generator
) -> tuple[NDArray[np.int64], int]:
    """Every node that a minibatch needs, each once, and the edges sampled. Fanouts from the seeds outward."""
    seen, frontier, edges = [seeds], seeds, 0
    for fanout in fanouts:
        degree = graph.indptr[frontier + 1] - graph.indptr[frontier]
        picks = np.minimum(degree, fanout)
        of = np.repeat(np.arange(len(frontier)), picks)
        place = (chance.random(len(of)) * degree[of]).astype(np.int64)
        frontier = np.unique(graph.indices[graph.indptr[frontier[of]] + place])
        seen.append(frontier)
        edges += len(of)
    nodes = np.unique(np.concatenate(seen))
    return chance.permutation(nodes), edges


def vip_of(graph: PartitionedGraph, train: NDArray[np.int64], batch: int, fanouts: Sequence[int]) -> Worth:
    """The prior of these train nodes, [nodes]."""
    relation = Relation(graph.indptr, graph.indices)
    found = vip(relation, graph.size, train, list(fanouts[::-1]), min(batch, len(train)))
    return found.astype(np.float32)
