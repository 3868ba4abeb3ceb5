"""The VIP prior of partitions that exist. Each partition's process holds its own edges and train nodes alone
and exchanges with the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rudder.integrations.dgl_partition import read_partition_edges, read_train_nodes
from rudder.partition.prior_file import PriorInfo, prior_path, save_prior
from rudder.vip.formula import HopFanout, hops
from rudder.vip.layout import NodeLayout, read_layout
from rudder.vip.seeds import deal_evenly
from rudder.vip.shard import Exchange, PartitionEdges, Steps, run_over, vip_steps


@dataclass(frozen=True)
class PartReport:
    """One partition in numbers.

    remote_rows_per_minibatch: expected, of all trainers of the host together: the sum of remote nodes' VIP.
    """

    part: int
    nodes: int
    halo_nodes: int
    in_edges: int
    in_edges_from_halo: int
    train_nodes: int
    remote_rows_per_minibatch: float


@dataclass(frozen=True)
class TrainedWith:
    """What a job will train with: fanouts in the order of DGL's NeighborSampler, seeds per minibatch of a
    trainer, and trainers per host, which make q0 = batch_size * trainers / the host's train nodes, at most 1.
    """

    fanouts: Sequence[HopFanout]
    batch_size: int
    trainers: int = 1

    def plain(self) -> TrainedWith:
        """The same, as JSON can hold it. Raises ConfigError for fanouts that cannot be."""
        return TrainedWith(hops(self.fanouts)[::-1], self.batch_size, self.trainers)


def prior_steps(
    part_config: str | Path,
    edges: PartitionEdges,
    own_train: Mapping[str, NDArray[np.integer]],
    layout: NodeLayout,
    trained_with: TrainedWith,
) -> Steps[PartReport]:
    """One partition's part of the computation, see `rudder.vip.shard`; ends with its prior stored.

    own_train: typed ids, per node type, of the train nodes that the partition owns.
    """
    seeds, train_hash = yield from deal_evenly(own_train, layout, edges.part)
    plain = trained_with.plain()
    prior = yield from vip_steps(edges, seeds, plain.fanouts, plain.batch_size, plain.trainers)
    info = PriorInfo(
        fanouts=plain.fanouts,
        batch_size=plain.batch_size,
        trainers=plain.trainers,
        train_hash=train_hash,
        part=edges.part,
        num_parts=edges.num_parts,
    )
    by_type = {ntype: layout.typed(prior, ntype) for ntype in layout.ntypes}
    save_prior(prior_path(part_config, edges.part), by_type, info)
    return _report(edges, len(seeds), prior)


def make_prior(
    part_config: str | Path, part: int, exchange: Exchange, trained_with: TrainedWith
) -> PartReport:
    """Compute and store the prior of one partition, reading nothing of the others.

    Collective: one process for each partition calls it, with the same settings. Raises FormatError,
    ConfigError.
    """
    layout = read_layout(part_config)
    edges = read_partition_edges(part_config, part, layout)
    own_train = read_train_nodes(part_config, part, layout)
    return run_over(exchange, prior_steps(part_config, edges, own_train, layout, trained_with))


def _report(edges: PartitionEdges, train_nodes: int, prior: NDArray[np.float32]) -> PartReport:
    own = slice(edges.first, edges.first + edges.num_own)
    return PartReport(
        part=edges.part,
        nodes=edges.num_own,
        halo_nodes=len(edges.halo),
        in_edges=sum(len(relation.indices) for relation in edges.relations),
        in_edges_from_halo=sum(
            int(np.count_nonzero(relation.indices >= edges.num_own)) for relation in edges.relations
        ),
        train_nodes=train_nodes,
        remote_rows_per_minibatch=float(prior.sum(dtype=np.float64) - prior[own].sum(dtype=np.float64)),
    )
