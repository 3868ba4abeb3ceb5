"""Graphs in CSC form, whole and in partitions, for the tests of this folder."""

from __future__ import annotations

from typing import Callable

import numpy as np
import pytest

from rudder.vip import PartitionEdges, Relation


def relation_of(src: np.ndarray, dst: np.ndarray, num_nodes: int, name: str = "_N:_E:_N") -> Relation:
    """In-edges of all nodes."""
    order = np.argsort(dst, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(dst, minlength=num_nodes))])
    return Relation(indptr, src[order], name)


def cut(relations: list[Relation], part_starts: np.ndarray) -> list[PartitionEdges]:
    """What each partition would hold of a graph whose nodes are already in the order of partitions."""
    parts = []
    for p, (low, high) in enumerate(zip(part_starts[:-1], part_starts[1:])):
        pieces = []
        for relation in relations:
            edges = slice(int(relation.indptr[low]), int(relation.indptr[high]))
            pieces.append((relation.indptr[low : high + 1] - relation.indptr[low], relation.indices[edges]))
        sources = np.concatenate([indices for _, indices in pieces])
        halo = np.unique(sources[(sources < low) | (sources >= high)])
        number = np.full(int(part_starts[-1]), -1)
        number[low:high] = np.arange(high - low)
        number[halo] = high - low + np.arange(len(halo))
        parts.append(
            PartitionEdges(
                p,
                part_starts,
                halo.astype(np.int64),
                [
                    Relation(indptr, number[indices], relation.name)
                    for (indptr, indices), relation in zip(pieces, relations)
                ],
            )
        )
    return parts


@pytest.fixture(scope="session", name="relation_of")
def _relation_of() -> Callable[..., Relation]:
    return relation_of


@pytest.fixture(scope="session", name="cut")
def _cut() -> Callable[..., list[PartitionEdges]]:
    return cut
