"""Reproducible distributed sampling, for comparisons and tests.

DGL's random numbers depend on the thread that draws them (each gets its own stream, numbered by first use)
and on how many were drawn before: on a server, on the order in which the trainers' requests arrive. Seeding
once is therefore not enough to sample the same minibatches twice. Here every draw is seeded by what is
drawn: the nodes, the fanout and the job's seed. The same minibatch then has the same neighbours whoever
samples it, in any thread, ahead of time or not; different ones stay independent.
"""

from __future__ import annotations

import zlib
from typing import Any


def seed_sampling(seed: int) -> None:
    """Seed every neighbour sampling of this process. Call in servers and trainers, before `initialize`.

    One limit: among the threads of a process only the first that samples, whichever it is, repeats exactly
    what the first one of another run drew.
    """
    import dgl
    from dgl.distributed import graph_services

    stock = graph_services.local_sample_neighbors

    def seeded(graph: Any, nodes: Any, fanout: Any, *args: Any, **kwargs: Any) -> Any:
        drawn = zlib.crc32(f"{seed} {fanout}".encode())
        dgl.seed(zlib.crc32(nodes.contiguous().numpy(), drawn) & 0x7FFFFFFF)
        return stock(graph, nodes, fanout, *args, **kwargs)

    graph_services.local_sample_neighbors = seeded
