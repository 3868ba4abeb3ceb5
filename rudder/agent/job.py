"""What is known of a job when a tensor is attached: told to language models, in the part that stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class JobFacts:
    """Facts that hold for the whole job. None, and nothing at all: not known, and not told."""

    #: Trainers of the job, and partitions of its graph: one a host.
    trainers: int | None = None
    partitions: int | None = None
    #: Of the whole graph.
    nodes: int | None = None
    edges: int | None = None
    #: Of the table: all rows, those that other hosts own, those of the partition's halo, and bytes of one.
    rows: int | None = None
    remote_rows: int | None = None
    halo_rows: int | None = None
    row_bytes: int | None = None
    #: Rows that the trainer's memory holds under the default plan.
    capacity_rows: int | None = None
    #: Seeds of a minibatch, and neighbours of each hop in the order of DGL's NeighborSampler, as far as the
    #: stored prior says.
    batch_size: int | None = None
    fanouts: Sequence[object] = ()
    #: The replacement policy.
    policy: str = ""
    #: Names of the transports that rows come by.
    transports: tuple[str, ...] = ()

    def text(self) -> str:
        """One line for each fact that is known; "" where none is."""
        memory = None
        if self.capacity_rows is not None and self.row_bytes is not None:
            memory = self.capacity_rows * self.row_bytes
        facts = {
            "trainers": self.trainers,
            "hosts, each with a partition of the graph": self.partitions,
            "nodes of the graph": self.nodes,
            "edges of the graph": self.edges,
            "rows of the table": self.rows,
            "rows of other hosts": self.remote_rows,
            "rows of others that this partition's graph has": self.halo_rows,
            "bytes of a row": self.row_bytes,
            "rows that this trainer's memory holds": self.capacity_rows,
            "bytes of this memory": memory,
            "seeds of a minibatch": self.batch_size,
            "neighbours of each hop": ", ".join(map(str, self.fanouts)),
            "replacement policy": self.policy,
            "rows come by": ", ".join(self.transports),
        }
        return "\n".join(f"{name}: {value}" for name, value in facts.items() if value not in (None, ""))
