"""A power-law community graph with learnable labels: a degree-corrected stochastic block model.

Communities are nested in classes, so that a partitioner finds a good cut (communities) and a GNN a
signal (neighbours mostly share the class). Features alone tell the class badly, averaged over a
neighbourhood well; mislabelled nodes keep anybody from reaching 100%.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rudder.distinct import distinct
from rudder.errors import ConfigError
from rudder.graphs.graph import Graph
from rudder.graphs.synthesise import class_features, random_split

# Of the edge ends drawn: inside the own community, elsewhere in the own class; the rest goes anywhere.
COMMUNITY_SHARE, CLASS_SHARE = 0.62, 0.15
# Expected degrees follow a Pareto law of this exponent (social graphs: 2-3); lower means heavier hubs.
DEGREE_EXPONENT = 2.2
# No node expects more than this multiple of the mean degree, as real graphs of this size have.
MAX_DEGREE_RATIO = 150.0
# Nodes whose label says nothing about their place: the ceiling of any classifier is about 1 - this.
LABEL_NOISE = 0.08
COMMUNITIES_PER_CLASS = 8


def generate(
    num_nodes: int = 100_000,
    num_arcs: int = 1_500_000,
    *,
    feature_dim: int = 128,
    num_classes: int = 16,
    train_fraction: float = 0.5,
    seed: int = 0,
    name: str = "generated",
) -> Graph:
    """Make an undirected graph of about `num_arcs` stored arcs (both directions), deterministic in `seed`.

    feat is float32 [num_nodes, feature_dim]; label int64; split leaves half of what is not trained on to
    validation, half to test. Node ids are shuffled: their order carries no locality. Nobody is isolated.
    """
    if num_nodes < 2 * num_classes or num_classes < 2:
        raise ConfigError(
            f"{num_nodes} nodes for {num_classes} classes: give at least 2 classes and 2 nodes to each"
        )
    fewest, most = 2 * num_nodes, num_nodes * (num_nodes - 1) // 4
    if not fewest <= num_arcs <= most:
        raise ConfigError(f"{num_arcs} arcs for {num_nodes} nodes: give between {fewest} and {most}")
    rng = np.random.default_rng(seed)
    communities = min(num_classes * COMMUNITIES_PER_CLASS, num_nodes // 4)
    community = _uneven_blocks(num_nodes, communities, rng)
    class_of = community % num_classes
    worth = np.minimum(rng.pareto(DEGREE_EXPONENT - 1, num_nodes) + 1, MAX_DEGREE_RATIO)
    low, high = _edges(worth, community, class_of, num_arcs // 2, rng)
    label = class_of.astype(np.int64)
    wrong = rng.random(num_nodes) < LABEL_NOISE
    label[wrong] = rng.integers(0, num_classes, int(wrong.sum()))
    # From the true class: a wrong label contradicts both the features and the neighbours of its node.
    feat = class_features(class_of.astype(np.int64), feature_dim, seed=seed)
    return Graph(
        name=name,
        src=np.concatenate([low, high]),
        dst=np.concatenate([high, low]),
        num_nodes=num_nodes,
        directed=False,
        feat=feat,
        label=label,
        split=random_split(num_nodes, train_fraction, seed=seed),
    )


def _uneven_blocks(num_nodes: int, blocks: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A block per node, sizes within a factor of about three, every block used, order shuffled."""
    share = rng.uniform(0.5, 1.5, blocks)
    block = rng.choice(blocks, num_nodes, p=share / share.sum())
    block[:blocks] = np.arange(blocks)
    return rng.permutation(block).astype(np.int64)


def _edges(
    worth: NDArray[np.float64],
    community: NDArray[np.int64],
    class_of: NDArray[np.int64],
    edges: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """About `edges` distinct undirected edges without self-loops; each node has at least one."""
    n = len(worth)
    everywhere = np.zeros(n, dtype=np.int64)
    groups = [
        (COMMUNITY_SHARE, community),
        (CLASS_SHARE, class_of),
        (1 - COMMUNITY_SHARE - CLASS_SHARE, everywhere),
    ]
    samplers = [(share, _WorthSampler(worth, group)) for share, group in groups]
    # The first n draws give every node an edge; they are never truncated below.
    keys = _pair_keys(np.arange(n), samplers[0][1].partner(np.arange(n), rng), n)
    lonely = keys < 0
    others = (np.flatnonzero(lonely) + rng.integers(1, n, int(lonely.sum()))) % n
    keys[lonely] = _pair_keys(np.flatnonzero(lonely), others, n)
    first = distinct(keys)
    wanted = edges - len(first)
    more = np.zeros(0, dtype=np.int64)
    # Duplicates and self-loops are dropped, so draw again for what is missing; hubs make some inevitable.
    for _ in range(8):
        missing = wanted - len(more)
        if missing <= 0:
            break
        for share, sampler in samplers:
            source = samplers[-1][1].partner(np.zeros(int(missing * share) + 1, dtype=np.int64), rng)
            drawn = _pair_keys(source, sampler.partner(source, rng), n)
            more = distinct(np.concatenate([more, drawn[drawn >= 0]]))
        more = np.setdiff1d(more, first, assume_unique=True)
    if len(more) > wanted:
        more = rng.choice(more, max(wanted, 0), replace=False)
    keys = np.concatenate([first, more])
    return keys // n, keys % n


def _pair_keys(a: NDArray[np.int64], b: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """One number per undirected pair; -1 for a self-loop."""
    keys: NDArray[np.int64] = np.where(a == b, -1, np.minimum(a, b) * n + np.maximum(a, b))
    return keys


class _WorthSampler:
    """Draws a node of a given node's group with probability proportional to its worth."""

    def __init__(self, worth: NDArray[np.float64], group: NDArray[np.int64]) -> None:
        self._order = np.argsort(group, kind="stable")
        self._cumulative = np.concatenate([[0.0], np.cumsum(worth[self._order])])
        ends = np.concatenate([[0], np.cumsum(np.bincount(group))])
        self._group, self._low, self._high = group, self._cumulative[ends[:-1]], self._cumulative[ends[1:]]

    def partner(self, nodes: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """A node of the same group for each of `nodes` (perhaps itself)."""
        group = self._group[nodes]
        point = self._low[group] + rng.random(len(nodes)) * (self._high[group] - self._low[group])
        place = np.searchsorted(self._cumulative, point, side="right") - 1
        partner: NDArray[np.int64] = self._order[np.minimum(place, len(self._order) - 1)]
        return partner
