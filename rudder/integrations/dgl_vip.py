"""Priors of a running DistDGL job: VIP refreshed for new train nodes, fanouts or batch size, and degree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rudder.errors import ConfigError
from rudder.integrations.dgl_partition import partition_edges
from rudder.partition.prior_file import load_prior
from rudder.vip.exchange import TorchExchange
from rudder.vip.formula import HopFanout
from rudder.vip.layout import NodeLayout
from rudder.vip.shard import Exchange, PartitionEdges, degree_prior, run_over, vip_steps

ByType = dict[str, NDArray[np.float32]]


def refresh(
    g: Any,
    train_nids: Any,
    fanouts: Sequence[HopFanout],
    batch_size: int,
    *,
    trainers: int = 1,
    exchange: Exchange | None = None,
) -> ByType:
    """VIP of the running job's graph, for this trainer: float32 [nodes] per node type, by typed id.

    g:          a DistGraph with its partition on this machine.
    train_nids: typed ids this trainer trains on, as ``dgl.distributed.node_split`` gave them: a tensor or
                array (graphs with one node type) or a mapping from node type. For a buffer that several
                trainers of a host share, give the ids of all of them and `trainers`; q0 is then batch *
                trainers / train nodes, at most 1.
    fanouts:    in the order of DGL's NeighborSampler.
    exchange:   how to reach one trainer of every other partition; by default a TorchExchange made (and
                dropped) here.

    Collective: every trainer of the job calls it, with the same fanouts, at the same point of its program.
    No DGL call leaves the process, so sampling may go on. Raises ConfigError where the partition is not
    local.
    """
    layout, edges = _local(g)
    if not isinstance(train_nids, Mapping):
        if len(layout.ntypes) != 1:
            raise ConfigError(
                f"train_nids: give a mapping from node type; there are {', '.join(layout.ntypes)}"
            )
        train_nids = {layout.ntypes[0]: train_nids}
    seeds = [layout.whole_ids(np.asarray(ids, dtype=np.int64), ntype) for ntype, ids in train_nids.items()]
    steps = vip_steps(
        edges, np.concatenate([np.zeros(0, dtype=np.int64), *seeds]), fanouts, batch_size, trainers
    )
    result = run_over(exchange or TorchExchange(edges.part, edges.num_parts), steps)
    return {ntype: layout.typed(result, ntype) for ntype in layout.ntypes}


def initial_prior(
    g: Any, part_config: str | Path, ntype: str | None = None
) -> tuple[NDArray[np.float32], str]:
    """The prior to start with, float32 [nodes of `ntype`], and its kind: "vip" as stored, else "degree".

    The reason for a fallback is logged. Not collective. Raises FormatError where a stored one cannot be read.
    """
    stored = load_prior(part_config, g.get_partition_book().partid, ntype)
    if stored is not None:
        return stored, "vip"
    by_type = local_degree_prior(g)
    return by_type[next(iter(by_type)) if ntype is None else ntype], "degree"


def local_degree_prior(g: Any) -> ByType:
    """Where no VIP is stored: how many of this partition's nodes draw from each node. Not collective."""
    layout, edges = _local(g)
    prior = degree_prior(edges)
    return {ntype: layout.typed(prior, ntype) for ntype in layout.ntypes}


def layout_of(book: Any) -> NodeLayout:
    """The layout of a graph's nodes, from DGL's RangePartitionBook."""
    # DGL has no public way to its ranges short of spelling out every id.
    return NodeLayout(
        {ntype: np.asarray(book._typed_nid_range[ntype], dtype=np.int64) for ntype in book.ntypes}
    )


def _local(g: Any) -> tuple[NodeLayout, PartitionEdges]:
    book = g.get_partition_book()
    if g.local_partition is None:
        raise ConfigError(
            "this machine holds no partition of the graph (servers run elsewhere): no prior can be made here"
        )
    layout = layout_of(book)
    etypes = [":".join(etype) for etype in book.canonical_etypes]
    return layout, partition_edges(g.local_partition, book.partid, layout, etypes)
