"""Which train nodes belong to which partition's trainers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rudder.distinct import distinct
from rudder.vip.layout import NodeLayout


def split_evenly(train: Mapping[str, NDArray[np.integer]], layout: NodeLayout) -> list[NDArray[np.int64]]:
    """Whole-graph ids of each partition's train nodes, as ``dgl.distributed.node_split`` deals them out.

    train: typed ids per node type. node_split gives every partition equally many of a type (to one) in the
    order of typed ids, so a few at the seams belong to a neighbour's trainers.
    """
    shares: list[list[NDArray[np.int64]]] = [[] for _ in range(layout.num_parts)]
    for ntype, ids in train.items():
        whole = layout.whole_ids(distinct(ids), ntype)
        for share, piece in zip(shares, np.array_split(whole, layout.num_parts)):
            share.append(piece)
    empty = np.zeros(0, dtype=np.int64)
    return [np.concatenate([empty, *share]) for share in shares]


def train_hash(train: Mapping[str, NDArray[np.integer]]) -> str:
    """Short fingerprint of a train set (typed ids per node type), whatever the order of its ids."""
    digest = hashlib.sha256()
    for ntype in sorted(train):
        ids = distinct(train[ntype]).astype("<i8")
        digest.update(f"{ntype}:{len(ids)}:".encode())
        digest.update(ids.tobytes())
    return digest.hexdigest()[:16]
