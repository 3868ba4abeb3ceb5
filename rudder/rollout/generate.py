"""Workloads that change as training jobs do: neighbour sampling on generated graphs, and costs that drift.

A workload follows from its kind and its seed alone. Those that nobody may learn from (``held_out``) come from
other seeds, and from larger and denser graphs with other costs.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rudder.rollout.sampled import TrainSet, make_graph, sample, vip_of
from rudder.rollout.workload import Workload

#: What changes over time.
KINDS = {
    "steady": "nothing",
    "phases": "the training set, from one part of the graph to another",
    "sliding": "the training set, a little all the time",
    "fanout": "fanout and batch size",
    "bandwidth": "the link: it slows down and recovers",
    "memory": "the memory: it shrinks, and may come back",
}
DRIFTING = tuple(kind for kind in KINDS if kind != "steady")
INTERVAL = 32
#: Intervals of a workload. Two or three changes happen in them, with time to adapt to each.
INTERVALS = 16
_NOISE = 0.05  # of sampling and training times, as a share; that of a quiet machine


def workload(kind: str, seed: int, *, held_out: bool = False, intervals: int = INTERVALS) -> Workload:
    """The workload of this kind and seed; ``intervals``: of `INTERVAL` minibatches."""
    chance = np.random.default_rng((seed, list(KINDS).index(kind), held_out))
    graph = make_graph(chance, held_out)
    length = intervals * INTERVAL
    seeds = TrainSet(kind, graph, length, chance)
    shapes = _shapes(kind, length, chance)
    parts, edges = [], np.empty(length)
    for minibatch, (batch, fanouts) in enumerate(shapes):
        nodes, edges[minibatch] = sample(graph, seeds.draw(minibatch, batch, chance), fanouts, chance)
        parts.append(nodes[graph.remote[nodes]].astype(np.int32))
    changes = [t for t in range(1, length) if shapes[t] != shapes[t - 1]]
    free = np.zeros(length)
    base = Workload(
        name=f"{kind}:{seed}{'h' if held_out else ''}",
        id_space=graph.size,
        ids=np.concatenate(parts),
        offsets=np.concatenate(([0], np.cumsum([len(part) for part in parts]))).astype(np.int64),
        row_bytes=int(chance.choice((400, 512, 1024, 2408))),
        degree=np.diff(graph.indptr).astype(np.float32),
        vip=tuple(
            (first, vip_of(graph, seeds.members(first), *shapes[first]))
            for first in sorted({0, *seeds.changes, *changes})
        ),
        rebuild_s=0.0,
        sampling_s=free,
        compute_s=free,
        bandwidth=free,
        latency_s=free,
        memory_rows=free.astype(np.int64),
        block_bytes=free,
    )
    return costed(base, kind, chance, edges / edges.mean(), held_out=held_out)


def costed(
    base: Workload, kind: str, chance: np.random.Generator, work: NDArray[np.float64], *, held_out: bool
) -> Workload:
    """The same accesses with costs: a random balance of network, sampling and training, and its drift.

    ``work``: edges sampled by each minibatch, 1 on average.
    """
    length = len(base)
    rows = np.diff(base.offsets)
    requested_bytes = float(rows.mean()) * base.row_bytes
    compute = 0.05
    # Fetching everything takes so many times what training takes; a good buffer cuts that to a third.
    network = _between(chance, 0.8, 8.0) if not held_out else _between(chance, 1.0, 6.0)
    bandwidth = np.full(length, requested_bytes / (network * compute))
    latency = np.full(length, compute * _between(chance, 0.01, 1.5))
    memory = np.full(length, len(np.unique(base.ids)) * _between(chance, 0.06, 0.3))
    if kind == "bandwidth":
        factor = _dips(length, chance, 0.25, 0.6)
        bandwidth *= factor
        latency /= np.sqrt(factor)
    if kind == "memory":
        memory *= _dips(length, chance, 0.35, 0.7)
    sampling = compute * _between(chance, 0.1, 0.9)
    return replace(
        base,
        sampling_s=sampling * work * _noisy(chance, length),
        compute_s=compute * (0.4 + 0.6 * work) * _noisy(chance, length),
        bandwidth=bandwidth,
        latency_s=latency,
        memory_rows=np.maximum(64, memory).astype(np.int64),
        # Ids and edges of a block, in rows' bytes: heavy where rows are short.
        block_bytes=requested_bytes * _between(chance, 0.03, 0.5) * work,
        rebuild_s=compute * _between(chance, 0.5, 6.0),
    )


def _shapes(kind: str, length: int, chance: np.random.Generator) -> list[tuple[int, tuple[int, int]]]:
    """Batch size and fanouts, from the seeds outward, of each minibatch."""
    choices = [(16, (10, 5)), (24, (8, 4)), (32, (5, 5)), (24, (10, 10)), (48, (4, 4)), (12, (15, 10))]
    order = chance.permutation(len(choices))
    if kind != "fanout":
        return [choices[order[0]]] * length
    ends = _moments(length, chance)
    return [choices[order[int(np.searchsorted(ends, t, side="right")) % len(choices)]] for t in range(length)]


def _dips(length: int, chance: np.random.Generator, low: float, high: float) -> NDArray[np.float64]:
    """1, and less between two moments, or from one to the end."""
    factor = np.ones(length)
    moments = [*_moments(length, chance), length]
    for begin, end in zip(moments[::2], moments[1::2]):
        factor[begin:end] = chance.uniform(low, high)
    return factor


def _moments(length: int, chance: np.random.Generator) -> list[int]:
    """Two or three moments of change, none near the ends or each other."""
    count = int(chance.integers(2, 4))
    each = length // (count + 1)
    return [int(each * (place + 1) + chance.integers(-each // 4, each // 4 + 1)) for place in range(count)]


def _between(chance: np.random.Generator, low: float, high: float) -> float:
    """Between the two; as likely in the lower half of the scale of magnitudes as in the upper."""
    return float(math.exp(chance.uniform(math.log(low), math.log(high))))


def _noisy(chance: np.random.Generator, length: int) -> NDArray[np.float64]:
    return np.maximum(0.5, 1 + _NOISE * chance.standard_normal(length))
