"""Vertex-inclusion probability (VIP) on one machine: how likely a minibatch's sample contains each node.

SALIENT++ (arXiv 2305.03152). q0(v) = min(1, batch / train nodes) for the train nodes of the trainer, else 0.
For each fanout f, from the seeds outward:

    q'(v) = 1 - (1 - q(v)) * product over u that draw from v of (1 - q(u) * min(1, f / indegree(u)))

where u draws from v if v is among its in-neighbours. The last q is the VIP. Products of many numbers near 1
are kept as sums of log1p, and leave through expm1, so that small probabilities keep their digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from rudder.errors import ConfigError, FormatError

# Stored beside every prior; raised whenever the numbers would come out differently.
FORMULA_VERSION = 1

# Edges whose weights are spelled out at once: 8 bytes each, so scratch memory stays within about 128 MiB.
CHUNK_EDGES = 1 << 24

# Fanout of one hop: a number for every edge type, or a mapping with one per edge type, named "u:buys:i",
# ("u", "buys", "i") or "buys". -1 draws all in-neighbours.
HopFanout = Union[int, Mapping[Any, int]]


@dataclass(frozen=True)
class Relation:
    """In-edges of one edge type, in CSC form: node i draws from ``indices[indptr[i]:indptr[i+1]]``.

    indptr: int64 [rows + 1]; rows are the nodes that draw, numbered from 0.
    indices: int32 or int64 [edges], numbers of the nodes drawn from.
    name: canonical edge type as DGL's partition files spell it, ``"source:type:destination"``.
    """

    indptr: NDArray[np.integer]
    indices: NDArray[np.integer]
    name: str = "_N:_E:_N"

    def __post_init__(self) -> None:
        """Check the ends of indptr, which all later indexing rests on."""
        if len(self.indptr) < 1 or int(self.indptr[0]) != 0 or int(self.indptr[-1]) != len(self.indices):
            raise FormatError(f"edge type '{self.name}': indptr must run from 0 to {len(self.indices)} edges")


def vip(
    relations: Relation | Sequence[Relation],
    num_nodes: int,
    seeds: NDArray[np.integer],
    fanouts: Sequence[HopFanout],
    batch_size: int,
    *,
    trainers: int = 1,
) -> NDArray[np.float64]:
    """VIP of every node: float64 [num_nodes], in [0, 1].

    relations: in-edges over the whole graph, one Relation per edge type, `num_nodes` rows each.
    seeds: ids of the train nodes of this trainer (or of all `trainers` of a host together).
    fanouts: in the order of DGL's NeighborSampler, so the *last* is applied to the seeds.
    """
    relations = [relations] if isinstance(relations, Relation) else list(relations)
    q = np.zeros(num_nodes)
    q[seeds] = seed_probability(len(seeds), batch_size, trainers)
    for fanout in hops(fanouts):
        log_miss = np.zeros(num_nodes)
        for relation in relations:
            add_log_misses(relation, q, fanout_of(fanout, relation.name), log_miss)
        q = include(q, log_miss)
    return q


def hops(fanouts: Sequence[HopFanout]) -> list[HopFanout]:
    """Fanouts from the seeds outward, given in NeighborSampler's order. Raises ConfigError if unusable."""
    if isinstance(fanouts, (str, bytes)) or not len(fanouts):
        raise ConfigError(
            f"fanouts {fanouts!r}: give one number (or one per edge type) for each hop, e.g. [10, 25]"
        )
    return [plain_fanout(fanout) for fanout in reversed(fanouts)]


def plain_fanout(fanout: HopFanout) -> HopFanout:
    """The same fanout as JSON can hold it: edge types given as tuples become "source:type:destination"."""
    numbers = fanout.values() if isinstance(fanout, Mapping) else [fanout]
    for number in numbers:
        if int(number) != number or number < -1:
            raise ConfigError(f"fanout {number!r}: give a count of neighbours, or -1 for all of them")
    if not isinstance(fanout, Mapping):
        return int(fanout)
    by_name = {":".join(etype) if isinstance(etype, tuple) else etype: int(n) for etype, n in fanout.items()}
    return dict(sorted(by_name.items()))


def seed_probability(num_seeds: int, batch_size: int, trainers: int = 1) -> float:
    """q0: the chance that a train node is a seed of a minibatch, or of one of each of `trainers`."""
    if batch_size < 1 or trainers < 1:
        raise ConfigError(f"batch_size {batch_size} and trainers {trainers} must be at least 1")
    return min(1.0, batch_size * trainers / num_seeds) if num_seeds else 0.0


def fanout_of(fanout: HopFanout, name: str) -> int:
    """The fanout of edge type `name` ("u:buys:i"), which a mapping may also call "buys"."""
    if not isinstance(fanout, Mapping):
        return fanout
    for spelling in (name, name.split(":")[1] if ":" in name else name):
        if spelling in fanout:
            return fanout[spelling]
    raise ConfigError(f"fanouts name no number for edge type '{name}'; they name {', '.join(fanout)}")


def add_log_misses(
    relation: Relation, q: NDArray[np.float64], fanout: int, log_miss: NDArray[np.float64]
) -> None:
    """Add to ``log_miss[v]`` the log of the chance that no node of the relation draws v.

    q: [rows], inclusion probability of the nodes that draw. Scratch memory is bounded by CHUNK_EDGES and two
    vectors, whatever the number of edges.
    """
    degree = np.diff(relation.indptr)
    with np.errstate(divide="ignore"):  # q = 1 and every neighbour drawn: log(0) = -inf, and expm1 makes it 1
        share = 1.0 if fanout < 0 else np.minimum(1.0, fanout / np.maximum(degree, 1))
        log_factor = np.log1p(-q * share)
    row = 0
    while row < len(degree):
        end = int(np.searchsorted(relation.indptr, relation.indptr[row] + CHUNK_EDGES, side="right")) - 1
        end = min(max(end, row + 1), len(degree))
        if log_factor[row:end].any():
            edges = slice(int(relation.indptr[row]), int(relation.indptr[end]))
            weights = np.repeat(log_factor[row:end], degree[row:end])
            log_miss += np.bincount(relation.indices[edges], weights=weights, minlength=len(log_miss))
        row = end


def include(q: NDArray[np.float64], log_miss: NDArray[np.float64]) -> NDArray[np.float64]:
    """q' of the formula: 1 - (1 - q) exp(log_miss), without cancellation."""
    # 1 - (1 - q) e^l = q + (1 - q) (1 - e^l)
    next_q: NDArray[np.float64] = q - (1.0 - q) * np.expm1(log_miss)
    return next_q
