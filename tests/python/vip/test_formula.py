from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rudder.vip.formula as formula
from rudder.errors import ConfigError, FormatError
from rudder.graphs import load_npz
from rudder.vip import Relation, vip

RelationOf = Callable[..., Relation]


def by_the_letter(
    edges: Sequence[tuple[int, int]], num_nodes: int, seeds: Sequence[int], outward: Sequence[int], batch: int
) -> np.ndarray:
    """The formula as it is written, node by node, over (source, destination) pairs."""
    q = [min(1.0, batch / len(seeds)) if v in seeds else 0.0 for v in range(num_nodes)]
    indegree = [sum(dst == u for _, dst in edges) for u in range(num_nodes)]
    for f in outward:
        miss = [1.0] * num_nodes
        for v, u in edges:
            miss[v] *= 1 - q[u] * (1.0 if f < 0 else min(1.0, f / indegree[u]))
        q = [1 - (1 - q[v]) * miss[v] for v in range(num_nodes)]
    return np.array(q)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_equals_the_formula_as_written(relation_of: RelationOf, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 12))
    node = st.integers(0, n - 1)
    edges = data.draw(st.lists(st.tuples(node, node), max_size=40))
    seeds = sorted(data.draw(st.sets(node)))
    fanouts = data.draw(st.lists(st.integers(-1, 6), min_size=1, max_size=3))
    batch = data.draw(st.integers(1, 8))
    src, dst = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    got = vip(relation_of(src, dst, n), n, np.array(seeds, dtype=np.int64), fanouts, batch)
    assert np.allclose(got, by_the_letter(edges, n, seeds, fanouts[::-1], batch), atol=1e-12)
    assert ((got >= 0) & (got <= 1)).all()


def test_by_hand(relation_of: RelationOf) -> None:
    # 0 draws from 1, 2, 3; 1 draws from 4. One seed of two (0 and 5): q0 = 1/2.
    relation = relation_of(np.array([1, 2, 3, 4]), np.array([0, 0, 0, 1]), 6)
    q = vip(relation, 6, np.array([0, 5]), [1, 2], 1)
    assert q[0] == pytest.approx(0.5)
    first = 0.5 * 2 / 3
    assert q[1] == pytest.approx(1 - (1 - first) * (1 - 0.5 / 3))
    assert q[4] == pytest.approx(first)
    assert q[5] == pytest.approx(0.5)


def test_the_last_fanout_is_that_of_the_seeds(relation_of: RelationOf) -> None:
    relation = relation_of(np.arange(1, 11), np.zeros(10, dtype=np.int64), 11)
    assert vip(relation, 11, np.array([0]), [1, 10], 1)[1] == pytest.approx(1.0)
    assert vip(relation, 11, np.array([0]), [1, 5], 1)[1] == pytest.approx(1 - 0.5 * 0.9)


def test_small_probabilities_keep_their_digits(relation_of: RelationOf) -> None:
    # A chain of nodes of in-degree 1000 with fanout 1: 1e-3 per hop.
    width, seeds = 1000, np.array([0])
    src = np.concatenate([np.arange(1, width + 1), np.arange(width + 1, 2 * width + 1)])
    dst = np.concatenate([np.zeros(width, dtype=np.int64), np.ones(width, dtype=np.int64)])
    n = 2 * width + 1
    got = vip(relation_of(src, dst, n), n, np.concatenate([seeds, np.full(0, 1)]), [1, 1], 1)
    assert got[-1] == pytest.approx(1e-6, rel=1e-9)


def test_chunks_do_not_change_the_result(relation_of: RelationOf, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    relation = relation_of(rng.integers(0, 200, 3000), rng.integers(0, 200, 3000), 200)
    whole = vip(relation, 200, np.arange(50), [3, 5], 10)
    for edges in (1, 7, 64):
        monkeypatch.setattr(formula, "CHUNK_EDGES", edges)
        assert np.allclose(vip(relation, 200, np.arange(50), [3, 5], 10), whole, rtol=1e-12)


def sampled_inclusion(
    edges: np.ndarray, num_nodes: int, seeds: np.ndarray, outward: Sequence[int], q0: float, trials: int
) -> np.ndarray:
    """How often each node lies in the sample; every node reached so far draws fanout distinct in-edges."""
    rng = np.random.default_rng(7)
    src, dst = edges
    order = np.argsort(dst, kind="stable")
    src, dst = src[order], dst[order]
    starts = np.searchsorted(dst, np.arange(num_nodes))
    reached = np.zeros((trials, num_nodes), dtype=bool)
    reached[:, seeds] = rng.random((trials, len(seeds))) < q0
    for f in outward:
        # Rank the edges of each node at random; those of rank below the fanout are drawn.
        key = dst + rng.random((trials, len(dst)))
        rank = np.argsort(np.argsort(key, axis=1), axis=1) - starts[dst]
        drawn = (rank < f) & reached[:, dst]
        trial, edge = np.nonzero(drawn)
        reached[trial, src[edge]] = True
    return reached.mean(axis=0)


def test_one_hop_is_exact_on_any_graph_without_self_loops(relation_of: RelationOf) -> None:
    rng = np.random.default_rng(5)
    n, trials = 14, 20_000
    edges = np.unique(rng.integers(0, n, (2, 60)), axis=1)
    edges = edges[:, edges[0] != edges[1]]
    seeds = np.array([0, 3, 4, 9, 11])
    expected = vip(relation_of(*edges, n), n, seeds, [2], 2)
    measured = sampled_inclusion(edges, n, seeds, [2], 2 / 5, trials)
    error = np.sqrt(expected * (1 - expected) / trials)
    assert (np.abs(measured - expected) <= 4.5 * error + 1e-9).all()


def test_hops_over_separate_paths_are_exact(relation_of: RelationOf) -> None:
    # Nodes first reached at hop three, by paths that share nothing: no two factors depend on each other.
    src, dst, n = [], [], 3
    for seed in range(3):
        for _ in range(3):
            src, dst, middle, n = [*src, n], [*dst, seed], n, n + 1
            src, dst = [*src, n, n + 1], [*dst, middle, middle]
            n += 2
    ends = [v for v in range(n) if v not in dst]
    src += [n, n, n, n]
    dst += [ends[0], ends[6], ends[12], ends[0]]
    edges, seeds, trials = np.array([src[:-1], dst[:-1]]), np.arange(3), 40_000
    expected = vip(relation_of(*edges, n + 1), n + 1, seeds, [1, 1, 2], 2)
    measured = sampled_inclusion(edges, n + 1, seeds, [2, 1, 1], 2 / 3, trials)
    error = np.sqrt(expected[n] * (1 - expected[n]) / trials)
    assert 0.05 < expected[n] < 0.95
    assert abs(measured[n] - expected[n]) <= 4.5 * error


def test_two_hops_on_a_tangled_graph_are_close(relation_of: RelationOf) -> None:
    # Beyond one hop the formula takes dependent draws for independent ones: too high, but in the right order.
    rng = np.random.default_rng(11)
    n = 400
    edges = np.unique(rng.integers(0, n, (2, 2400)), axis=1)
    seeds = np.arange(80)
    expected = vip(relation_of(*edges, n), n, seeds, [2, 3], 4)
    measured = sampled_inclusion(edges, n, seeds, [3, 2], 4 / 80, 3000)
    assert 1 < expected.sum() / measured.sum() < 1.25
    assert np.corrcoef(measured, expected)[0, 1] > 0.97


def test_fanouts_per_edge_type(relation_of: RelationOf) -> None:
    rng = np.random.default_rng(2)
    n = 30
    likes = relation_of(rng.integers(0, n, 90), rng.integers(0, n, 90), n, "u:likes:u")
    knows = relation_of(rng.integers(0, n, 90), rng.integers(0, n, 90), n, "u:knows:u")
    seeds = np.arange(6)
    by_type = vip([likes, knows], n, seeds, [{"likes": 2, "u:knows:u": 0}], 2)
    assert np.allclose(by_type, vip(likes, n, seeds, [2], 2))
    tuples = vip([likes, knows], n, seeds, [{("u", "likes", "u"): 2, ("u", "knows", "u"): 3}], 2)
    q = np.zeros(n)
    q[seeds] = 1 / 3
    miss = np.zeros(n)
    formula.add_log_misses(likes, q, 2, miss)
    formula.add_log_misses(knows, q, 3, miss)
    assert np.allclose(tuples, formula.include(q, miss))


@pytest.mark.parametrize(
    ("fanouts", "batch", "words"),
    [
        ([], 1, "one number"),
        ("10,25", 1, "one number"),
        ([-2], 1, "-1 for all"),
        ([1.5], 1, "count of neighbours"),
        ([{"other": 1}], 1, "name no number for edge type"),
        ([5], 0, "at least 1"),
    ],
)
def test_refuses_settings_that_cannot_work(
    relation_of: RelationOf, fanouts: list, batch: int, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        vip(relation_of(np.array([0]), np.array([1]), 2), 2, np.array([1]), fanouts, batch)


def test_refuses_a_broken_relation() -> None:
    with pytest.raises(FormatError, match="indptr"):
        Relation(np.array([0, 2]), np.array([1, 1, 1]))


def test_no_seeds_no_inclusion(relation_of: RelationOf) -> None:
    assert not vip(relation_of(np.array([0]), np.array([1]), 2), 2, np.zeros(0, dtype=int), [5], 3).any()


def test_agrees_with_the_vip_of_a_recorded_trace(
    relation_of: RelationOf, shared: Callable[[str], Path]
) -> None:
    # The trace names its remote nodes, not its partition or train nodes: local is what its halo cuts off from
    # every remote node it met, and any local node may be a seed. So values agree closely, not exactly.
    csgraph = pytest.importorskip("scipy.sparse.csgraph")
    sparse = pytest.importorskip("scipy.sparse")
    graph = load_npz(shared("data/ogbn_arxiv.npz")).bidirected()
    n = graph.num_nodes
    with np.load(shared("traces/arxiv_4parts_f10-25.npz")) as trace:
        nodes, recorded, num_halo = trace["nodes"], trace["vip"], int(trace["num_halo"])
    halo, remote = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    halo[nodes[:num_halo]], remote[nodes] = True, True
    inside = ~halo[graph.src] & ~halo[graph.dst]
    ends = graph.src[inside], graph.dst[inside]
    count, component = csgraph.connected_components(
        sparse.csr_matrix((np.ones(inside.sum(), dtype=np.int8), ends), shape=(n, n)), directed=False
    )
    met = np.zeros(count, dtype=bool)
    met[component[remote & ~halo]] = True
    local = np.flatnonzero(~halo & ~met[component])
    relation = relation_of(graph.src, graph.dst, n)
    made = vip(relation, n, local, [10, 25], 64)[nodes]
    assert np.corrcoef(made, recorded)[0, 1] > 0.97
