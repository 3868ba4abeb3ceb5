"""Which train nodes belong to which partition's trainers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rudder.distinct import distinct
from rudder.vip.layout import NodeLayout
from rudder.vip.shard import Steps


def deal_evenly(
    own: Mapping[str, NDArray[np.integer]], layout: NodeLayout, part: int
) -> Steps[tuple[NDArray[np.int64], str]]:
    """One partition's part of dealing out the train nodes, as ``dgl.distributed.node_split`` does.

    own: typed ids, per node type, of the train nodes that the partition owns.

    Returns whole-graph ids of the train nodes of this partition's trainers, and a short fingerprint of the
    whole train set, whatever its order. node_split gives every partition equally many of a type (to one) in
    the order of typed ids, so a few at the seams belong to a neighbour's trainers.
    """
    shares = [np.zeros(0, dtype=np.int64)]
    digest = hashlib.sha256()
    for ntype in layout.ntypes:
        ids = distinct(own.get(ntype, np.zeros(0, dtype=np.int64)))
        met = yield [np.array([len(ids), _mixed_sum(ids)])] * layout.num_parts
        counts, sums = np.stack(met).T
        digest.update(f"{ntype}:{counts.sum()}:{sums.sum()}:".encode())
        # Equal shares, the first few one larger; this partition's ids begin at place `first` of the order.
        each, larger = divmod(int(counts.sum()), layout.num_parts)
        ends = np.cumsum([each + (p < larger) for p in range(layout.num_parts)])
        first = int(counts[:part].sum())
        whole = layout.whole_ids(ids, ntype)
        shares += yield np.split(whole, np.clip(ends[:-1] - first, 0, len(whole)))
    return np.concatenate(shares), digest.hexdigest()[:16]


def _mixed_sum(ids: NDArray[np.int64]) -> np.int64:
    """The sum, modulo 2**64, of the ids' splitmix64: sums of parts add up to that of the whole."""
    x = ids.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    mixed: np.int64 = (x ^ (x >> np.uint64(31))).sum().astype(np.int64)
    return mixed
