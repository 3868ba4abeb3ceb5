from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rudder.distinct import distinct
from rudder.errors import ConfigError
from rudder.graphs import Graph, complete, generate
from rudder.graphs.datasets import load_dataset, load_graph
from rudder.graphs.plain import is_symmetric, single_label
from rudder.graphs.synthesise import class_features, community_labels, random_split


@pytest.fixture(scope="module")
def graph() -> Graph:
    return generate(20_000, 300_000, feature_dim=64, seed=3)


def test_has_the_size_that_was_asked_for(graph: Graph) -> None:
    assert graph.num_nodes == 20_000
    assert abs(graph.num_arcs - 300_000) < 0.02 * 300_000
    assert graph.feat is not None
    assert (graph.feat.shape, graph.feat.dtype) == ((20_000, 64), np.float32)
    assert graph.num_classes == 16


def test_is_simple_undirected_and_leaves_nobody_alone(graph: Graph) -> None:
    keys = graph.src.astype(np.int64) * graph.num_nodes + graph.dst
    assert len(distinct(keys)) == graph.num_arcs
    assert is_symmetric(graph.src, graph.dst, graph.num_nodes)
    assert not graph.directed
    assert (graph.src != graph.dst).all()
    assert np.bincount(graph.dst, minlength=graph.num_nodes).min() >= 1


def test_degrees_follow_a_power_law(graph: Graph) -> None:
    degree = np.sort(np.bincount(graph.dst, minlength=graph.num_nodes))[::-1]
    # Real graphs of the collection hold 13-31% of the degree sum in the top 1%; a random graph about 2%.
    assert 0.08 < degree[:200].sum() / degree.sum() < 0.4
    assert degree[0] > 10 * np.median(degree)


def test_node_order_carries_no_locality(graph: Graph) -> None:
    distance = np.abs(graph.src.astype(np.int64) - graph.dst)
    assert np.median(distance) / graph.num_nodes > 0.25


def test_same_seed_same_graph_other_seed_other_graph() -> None:
    one, same, other = (generate(2000, 20_000, feature_dim=4, seed=s) for s in (1, 1, 2))
    for key in ("src", "dst", "feat", "label", "split"):
        assert np.array_equal(getattr(one, key), getattr(same, key))
    assert not np.array_equal(one.label, other.label)


def nearest_centroid_accuracy(x: np.ndarray, graph: Graph) -> float:
    train, test = graph.mask(0), graph.mask(2)
    assert graph.label is not None
    centroid = np.stack([x[train & (graph.label == c)].mean(axis=0) for c in range(graph.num_classes)])
    score = x[test] @ centroid.T - 0.5 * (centroid**2).sum(axis=1)
    return float((score.argmax(axis=1) == graph.label[test]).mean())


def test_neighbours_tell_the_class_better_than_the_node_but_not_perfectly(graph: Graph) -> None:
    assert graph.feat is not None
    total = np.zeros_like(graph.feat)
    np.add.at(total, graph.dst, graph.feat[graph.src])
    mean = total / np.bincount(graph.dst, minlength=graph.num_nodes)[:, None]
    alone = nearest_centroid_accuracy(graph.feat, graph)
    together = nearest_centroid_accuracy(graph.feat + 2 * mean, graph)
    assert 2 / 16 < alone < 0.6
    assert alone + 0.15 < together < 0.95


@pytest.mark.parametrize(
    "settings",
    [{"num_nodes": 10}, {"num_arcs": 100}, {"num_nodes": 100, "num_arcs": 10**6}, {"num_classes": 1}],
)
def test_refuses_sizes_that_cannot_be(settings: dict) -> None:
    with pytest.raises(ConfigError):
        generate(**settings)


def ring_of_cliques(cliques: int, size: int) -> Graph:
    pairs = [
        (c * size + i, c * size + j)
        for c in range(cliques)
        for i in range(size)
        for j in range(size)
        if i != j
    ]
    pairs += [(c * size, (c + 1) % cliques * size) for c in range(cliques)]
    src, dst = np.array(pairs).T
    return Graph(name="cliques", src=src, dst=dst, num_nodes=cliques * size, directed=True)


def test_labels_made_for_a_graph_follow_its_communities() -> None:
    graph = ring_of_cliques(40, 12)
    label = community_labels(graph, 4, seed=1)
    assert (label[graph.src] == label[graph.dst]).mean() > 0.9
    assert len(np.unique(label)) == 4
    assert np.array_equal(label, community_labels(graph, 4, seed=1))


def test_complete_makes_only_what_is_missing() -> None:
    graph = ring_of_cliques(10, 6)
    full = complete(graph, feature_dim=8, num_classes=4, seed=5)
    assert full.feat is not None
    assert full.label is not None
    assert full.feat.shape == (60, 8)
    again = complete(full, feature_dim=99, seed=6)
    assert again.feat is not None
    assert np.array_equal(again.feat, full.feat)
    assert np.array_equal(again.label, full.label)
    assert np.array_equal(again.split, full.split)


@settings(max_examples=50, deadline=None)
@given(nodes=st.integers(1, 500), fraction=st.floats(0.001, 1), seed=st.integers(0, 5))
def test_splits_cover_every_node_and_train_somebody(nodes: int, fraction: float, seed: int) -> None:
    split = random_split(nodes, fraction, seed=seed)
    counts = np.bincount(split, minlength=3)
    assert counts.sum() == nodes
    assert counts[0] == max(1, round(nodes * fraction))
    assert abs(int(counts[1]) - int(counts[2])) <= 1


def test_unlabelled_nodes_get_noise_only() -> None:
    label = np.array([-1] * 400 + [0] * 400)
    feat = class_features(label, 32, signal=10.0)
    assert np.linalg.norm(feat[:400].mean(axis=0)) < 1
    assert np.linalg.norm(feat[400:].mean(axis=0)) > 9


def test_names_that_are_no_graph() -> None:
    with pytest.raises(ConfigError, match="known are generated"):
        load_dataset("nonesuch")
    with pytest.raises(ConfigError, match="no such file"):
        load_graph("nonesuch.npz")
    with pytest.raises(ConfigError, match="3 labels per node"):
        single_label("many", np.zeros((4, 3)))


def test_missing_labels_become_minus_one() -> None:
    assert single_label("some", np.array([[1.0], [np.nan], [2.0]])).tolist() == [1, -1, 2]


@given(st.lists(st.integers(-(2**40), 2**40)))
def test_distinct_is_the_sorted_set(ids: list[int]) -> None:
    assert distinct(np.array(ids, dtype=np.int64)).tolist() == sorted(set(ids))
