"""Features, labels and splits for graph files that lack them; deterministic in a seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rudder.errors import ConfigError
from rudder.graphs.graph import TEST, TRAIN, VALIDATION, Graph

# Distance of class centroids from the origin in units of the noise. At 1.5 a node's own features name one of
# 16 classes right in a third of the cases, the mean of 15 neighbours nearly always.
SIGNAL = 1.5
# Steps of diffusion that spread random signals into communities. More steps make larger communities.
DIFFUSION_STEPS = 8


def complete(
    graph: Graph,
    *,
    feature_dim: int = 128,
    num_classes: int = 16,
    train_fraction: float = 0.5,
    seed: int = 0,
) -> Graph:
    """The same graph with whatever it lacks of label, feat and split; what the file has stays as it is.

    `feature_dim` is used only where features are made.
    """
    label = graph.label if graph.label is not None else community_labels(graph, num_classes, seed=seed)
    feat = graph.feat if graph.feat is not None else class_features(label, feature_dim, seed=seed)
    split = (
        graph.split if graph.split is not None else random_split(graph.num_nodes, train_fraction, seed=seed)
    )
    return replace(graph, label=label, feat=feat, split=split)


def class_features(
    label: NDArray[np.integer], dim: int, *, signal: float = SIGNAL, seed: int = 0
) -> NDArray[np.float32]:
    """float32 [nodes, dim]: centroid of the class plus unit noise; noise alone for negative labels."""
    if dim < 1:
        raise ConfigError(f"feature_dim is {dim}; it must be at least 1")
    rng = np.random.default_rng([seed, 1])
    feat = rng.standard_normal((len(label), dim), dtype=np.float32)
    classes = int(label.max()) + 1 if len(label) else 0
    if classes > 0:
        centroid = rng.standard_normal((classes, dim))
        centroid *= signal / np.linalg.norm(centroid, axis=1, keepdims=True)
        known = label >= 0
        feat[known] += centroid.astype(np.float32)[label[known]]
    return feat


def community_labels(graph: Graph, num_classes: int, *, seed: int = 0) -> NDArray[np.int64]:
    """int64 [nodes]: classes of similar size that follow the graph's structure, so that they can be learned.

    One random signal per class is averaged over neighbours a few times (which leaves what is common to a
    community), made comparable between classes, and the strongest wins.
    """
    if num_classes < 2:
        raise ConfigError(f"num_classes is {num_classes}; it must be at least 2")
    both = graph.bidirected()
    n = both.num_nodes
    degree = np.bincount(both.dst, minlength=n) + 1.0
    rng = np.random.default_rng([seed, 2])
    strength = np.empty((num_classes, n))
    for row in strength:
        row[:] = rng.standard_normal(n)
        for _ in range(DIFFUSION_STEPS):
            row[:] = (row + np.bincount(both.dst, weights=row[both.src], minlength=n)) / degree
        # Averaging tends to a constant (the mean weighted by degree): what differs from it is the community.
        row -= np.average(row, weights=degree)
        row /= row.std() + 1e-12
    label: NDArray[np.int64] = strength.argmax(axis=0).astype(np.int64)
    return label


def random_split(num_nodes: int, train_fraction: float = 0.5, *, seed: int = 0) -> NDArray[np.int8]:
    """int8 [num_nodes]: `train_fraction` to train (at least a node), the rest half validation, half test."""
    if not 0 < train_fraction <= 1:
        raise ConfigError(f"train_fraction is {train_fraction}; it must lie in (0, 1]")
    order = np.random.default_rng([seed, 3]).permutation(num_nodes)
    train = max(1, round(num_nodes * train_fraction))
    validation = (num_nodes - train) // 2
    split = np.full(num_nodes, TEST, dtype=np.int8)
    split[order[:train]] = TRAIN
    split[order[train : train + validation]] = VALIDATION
    return split
