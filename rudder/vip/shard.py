"""VIP over partitions, so that no machine holds the whole graph.

A partition holds the in-edges of its own nodes, which is all that its nodes draw with. Every hop, it works
out what its nodes draw, keeps what falls on its own nodes and sends the rest, one number per halo node,
to the owners. Each partition has its own trainers, hence its own VIP vector over the whole graph: they are
made one after another, so that a machine holds two vectors over *its own* nodes at a time and, at the end,
its own result over all nodes.

The computation is a coroutine that yields what to send to each partition and receives what they sent: it
runs in lockstep inside one process (`run_in_process`) or over any all-to-all exchange (`run_over`), with the
same numbers.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from rudder.distinct import distinct
from rudder.errors import ConfigError, FormatError
from rudder.vip.formula import HopFanout, Relation, add_log_misses, fanout_of, hops, include, seed_probability

Message = NDArray[Any]
T = TypeVar("T")
# Yields one array for each partition, receives one from each; all partitions yield equally often.
Steps = Generator[list[Message], list[Message], T]
# Returns float32 [nodes of the whole graph].
VipSteps = Steps[NDArray[np.float32]]


@dataclass(frozen=True)
class PartitionEdges:
    """In-edges of the nodes that one partition owns. Ids are whole-graph ids (see rudder.vip.layout).

    part_starts: int64 [parts + 1]; partition p owns [part_starts[p], part_starts[p + 1]).
    halo:        int64 [halo nodes], ascending: nodes owned elsewhere that nodes of this partition draw from.
    relations:   one per edge type; row i is node part_starts[part] + i; indices number own nodes first, then
                 `halo`.
    """

    part: int
    part_starts: NDArray[np.int64]
    halo: NDArray[np.int64]
    relations: Sequence[Relation]

    def __post_init__(self) -> None:
        """Check what sends numbers to the right owner."""
        for relation in self.relations:
            if len(relation.indptr) != self.num_own + 1:
                raise FormatError(
                    f"partition {self.part}, edge type '{relation.name}': {len(relation.indptr) - 1} rows "
                    f"for {self.num_own} nodes"
                )
        if len(self.halo) and (np.diff(self.halo) <= 0).any():
            raise FormatError(f"partition {self.part}: halo ids must ascend")

    @property
    def num_parts(self) -> int:
        """Partitions of the graph."""
        return len(self.part_starts) - 1

    @property
    def first(self) -> int:
        """Whole-graph id of the first own node."""
        return int(self.part_starts[self.part])

    @property
    def num_own(self) -> int:
        """Nodes that this partition owns."""
        return int(self.part_starts[self.part + 1]) - self.first

    def by_owner(self, ids: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Ascending whole-graph ids, cut by the partition that owns them."""
        return np.split(ids, np.searchsorted(ids, self.part_starts[1:-1]))


class Exchange(Protocol):
    """An all-to-all among the partitions. Every partition calls it the same number of times."""

    def all_to_all(self, outgoing: list[Message]) -> list[Message]:
        """Send ``outgoing[p]`` (one-dimensional) to partition p; return what each partition sent here."""


def vip_steps(
    edges: PartitionEdges,
    seeds: NDArray[np.integer],
    fanouts: Sequence[HopFanout],
    batch_size: int,
    trainers: int = 1,
) -> VipSteps:
    """One partition's part of the computation.

    seeds: whole-graph ids of the train nodes of this partition's trainers, wherever they are owned.
    Partitions may differ in seeds and batch size, not in fanouts.
    """
    q0 = seed_probability(len(seeds), batch_size, trainers)
    seeds_by_owner = edges.by_owner(distinct(np.asarray(seeds)))
    outward = hops(fanouts)
    wanted = yield edges.by_owner(edges.halo)
    wanted = [ids - edges.first for ids in wanted]
    foreign_seeds = yield [ids - edges.part_starts[p] for p, ids in enumerate(seeds_by_owner)]
    foreign_starts = yield [np.array([q0, _fingerprint(outward)])] * edges.num_parts
    if any(start[1] != _fingerprint(outward) for start in foreign_starts):
        raise ConfigError("partitions were given different fanouts; give all of them the same")

    result = np.zeros(int(edges.part_starts[-1]), dtype=np.float32)
    for trainer_part in range(edges.num_parts):
        q = np.zeros(edges.num_own)
        q[foreign_seeds[trainer_part]] = foreign_starts[trainer_part][0]
        for fanout in outward:
            log_miss = np.zeros(edges.num_own + len(edges.halo))
            for relation in edges.relations:
                add_log_misses(relation, q, fanout_of(fanout, relation.name), log_miss)
            own = log_miss[: edges.num_own]
            cuts = np.searchsorted(edges.halo, edges.part_starts[1:-1])
            arrived = yield np.split(log_miss[edges.num_own :], cuts)
            for rows, values in zip(wanted, arrived):
                own[rows] += values  # ids of one sender are distinct
            q = include(q, own)
        nothing = np.zeros(0, dtype=np.float32)
        done = yield [q.astype(np.float32) if p == trainer_part else nothing for p in range(edges.num_parts)]
        if trainer_part == edges.part:
            result[:] = np.concatenate(done)
    return result


def _fingerprint(outward: Sequence[HopFanout]) -> float:
    """A number that tells fanouts (from `hops`) apart and that float64 holds exactly."""
    return float(zlib.crc32(repr(outward).encode()))


def run_in_process(steps: Sequence[Steps[T]]) -> list[T]:
    """Run the coroutines of all partitions in this process; returns what each one returns."""
    outgoing = [next(step) for step in steps]
    results: list[T] = []
    while not results:
        incoming = [[sent[p] for sent in outgoing] for p in range(len(steps))]
        outgoing = []
        for step, messages in zip(steps, incoming):
            try:
                outgoing.append(step.send(messages))
            except StopIteration as stop:
                results.append(stop.value)
    return results


def run_over(exchange: Exchange, steps: Steps[T]) -> T:
    """Run one partition's coroutine against its peers, over an exchange. Collective; blocks."""
    outgoing = next(steps)
    while True:
        incoming = exchange.all_to_all(outgoing)
        try:
            outgoing = steps.send(incoming)
        except StopIteration as stop:
            result: T = stop.value
            return result


def degree_prior(edges: PartitionEdges) -> NDArray[np.float32]:
    """float32 [nodes of the whole graph]: how many of this partition's nodes draw from each node.

    The fallback where no VIP is known: local, no exchange. Remote nodes beyond the halo get 0.
    """
    drawn = np.zeros(edges.num_own + len(edges.halo))
    for relation in edges.relations:
        drawn += np.bincount(relation.indices, minlength=len(drawn))
    prior = np.zeros(int(edges.part_starts[-1]), dtype=np.float32)
    prior[edges.first : edges.first + edges.num_own] = drawn[: edges.num_own]
    prior[edges.halo] = drawn[edges.num_own :]
    return prior
