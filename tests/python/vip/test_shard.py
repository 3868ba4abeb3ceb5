from __future__ import annotations

from typing import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rudder.errors import ConfigError, FormatError, IdError
from rudder.vip import (
    NodeLayout,
    PartitionEdges,
    Relation,
    degree_prior,
    run_in_process,
    vip,
    vip_steps,
)
from rudder.vip.seeds import deal_evenly

Cut = Callable[..., list[PartitionEdges]]
RelationOf = Callable[..., Relation]


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_partitions_together_equal_one_machine(
    relation_of: RelationOf, cut: Cut, data: st.DataObject
) -> None:
    n = data.draw(st.integers(1, 30))
    parts = data.draw(st.integers(1, 4))
    starts = np.array(
        [0, *sorted(data.draw(st.lists(st.integers(0, n), min_size=parts - 1, max_size=parts - 1))), n]
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    names = ["a:x:b", "b:y:a"][: data.draw(st.integers(1, 2))]
    relations = []
    for name in names:
        edges = rng.integers(0, n, (2, data.draw(st.integers(0, 120))))
        relations.append(relation_of(*edges, n, name))
    fanouts = [
        {name: int(rng.integers(-1, 6)) for name in names} if rng.random() < 0.5 else int(rng.integers(-1, 6))
        for _ in range(data.draw(st.integers(1, 3)))
    ]
    # Seeds of a partition may be owned by another, as node_split deals them out.
    seeds = [rng.choice(n, rng.integers(0, n + 1), replace=False) for _ in range(parts)]
    batches = rng.integers(1, 10, parts)
    trainers = int(rng.integers(1, 4))
    shards = cut(relations, starts)
    results = run_in_process(
        [vip_steps(shards[p], seeds[p], fanouts, int(batches[p]), trainers) for p in range(parts)]
    )
    for p in range(parts):
        alone = vip(relations, n, seeds[p], fanouts, int(batches[p]), trainers=trainers)
        assert results[p].dtype == np.float32
        assert np.abs(results[p] - alone).max() <= 1e-6


@pytest.mark.parametrize("other", [[2, 2], [3], [{"_E": 2}]])
def test_partitions_that_disagree_on_fanouts_are_found_out(
    relation_of: RelationOf, cut: Cut, other: list
) -> None:
    shards = cut([relation_of(np.array([0, 1]), np.array([1, 0]), 2)], np.array([0, 1, 2]))
    steps = [vip_steps(shards[0], np.array([0]), [2], 1), vip_steps(shards[1], np.array([1]), other, 1)]
    with pytest.raises(ConfigError, match="different fanouts"):
        run_in_process(steps)


def test_degree_counts_the_own_nodes_that_draw(relation_of: RelationOf, cut: Cut) -> None:
    src, dst = np.array([2, 2, 3, 0, 4]), np.array([0, 1, 1, 2, 3])
    first, second = cut([relation_of(src, dst, 5)], np.array([0, 2, 5]))
    assert degree_prior(first).tolist() == [0, 0, 2, 1, 0]
    assert degree_prior(second).tolist() == [1, 0, 0, 0, 1]


def test_a_partition_checks_its_own_shape() -> None:
    starts = np.array([0, 2, 4])
    with pytest.raises(FormatError, match="3 rows for 2 nodes"):
        PartitionEdges(0, starts, np.array([2]), [Relation(np.array([0, 1, 1, 1]), np.array([2]))])
    with pytest.raises(FormatError, match="ascend"):
        PartitionEdges(0, starts, np.array([3, 2]), [Relation(np.array([0, 1, 1]), np.array([2]))])


LAYOUT = NodeLayout({"item": np.array([[0, 3], [7, 10]]), "user": np.array([[3, 7], [10, 14]])})


def test_layout_numbers_nodes_as_dgl_does() -> None:
    assert LAYOUT.num_parts == 2
    assert LAYOUT.num_nodes == 14
    assert LAYOUT.part_starts.tolist() == [0, 7, 14]
    assert (LAYOUT.count("item"), LAYOUT.count("user")) == (6, 8)
    assert LAYOUT.whole_ids(np.arange(6), "item").tolist() == [0, 1, 2, 7, 8, 9]
    assert LAYOUT.typed(np.arange(14), "user").tolist() == [3, 4, 5, 6, 10, 11, 12, 13]
    with pytest.raises(IdError, match=r"outside \[0, 6\)"):
        LAYOUT.whole_ids(np.array([6]), "item")
    with pytest.raises(ConfigError, match="no node type 'shop'"):
        LAYOUT.count("shop")


@pytest.mark.parametrize(
    "ranges",
    [
        {},
        {"a": np.array([[0, 3], [4, 6]])},
        {"a": np.array([[0, 3], [2, 6]])},
        {"a": np.array([[0, 3]]), "b": np.array([[3, 4], [4, 5]])},
    ],
)
def test_layout_refuses_gaps_and_overlaps(ranges: dict) -> None:
    with pytest.raises(FormatError):
        NodeLayout(ranges)


def dealt(train: dict[str, np.ndarray], layout: NodeLayout) -> list[tuple[np.ndarray, str]]:
    """Seeds of each partition, and the fingerprint that it found, from what each one owns."""
    own = []
    for p in range(layout.num_parts):
        starts = {ntype: layout.typed_starts(ntype) for ntype in train}
        own.append(
            {t: ids[(ids >= starts[t][p]) & (ids < starts[t][p + 1])] for t, ids in train.items() if len(ids)}
        )
    return run_in_process([deal_evenly(own[p], layout, p) for p in range(layout.num_parts)])


def test_seeds_are_dealt_out_evenly_per_type() -> None:
    shares = dealt({"user": np.array([7, 0, 1]), "item": np.array([5])}, LAYOUT)
    assert [sorted(share.tolist()) for share, _ in shares] == [[3, 4, 9], [13]]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_parts_deal_out_what_one_machine_would(data: st.DataObject) -> None:
    parts = data.draw(st.integers(1, 5))
    sizes = np.array(data.draw(st.lists(st.integers(0, 9), min_size=2 * parts, max_size=2 * parts)))
    ends = np.cumsum(sizes)
    ranges = np.stack([ends - sizes, ends], 1).reshape(parts, 2, 2)
    layout = NodeLayout({"a": ranges[:, 0], "b": ranges[:, 1]})
    train = {t: np.array(sorted(data.draw(st.sets(st.integers(0, 40)))), dtype=int) for t in "ab"}
    train = {t: ids[ids < layout.count(t)] for t, ids in train.items()}
    shares = dealt(train, layout)
    whole = [np.array_split(layout.whole_ids(train[t], t), parts) for t in "ab"]
    for p, (share, _) in enumerate(shares):
        assert share.tolist() == [*whole[0][p], *whole[1][p]]
    assert len({found for _, found in shares}) == 1


def test_the_fingerprint_knows_the_set_and_not_who_holds_it() -> None:
    def fingerprint(train: dict[str, np.ndarray], layout: NodeLayout) -> str:
        ((_, one), *_) = dealt({t: np.array(ids) for t, ids in train.items()}, layout)
        return one

    other = NodeLayout({"item": np.array([[0, 5], [6, 7]]), "user": np.array([[5, 6], [7, 14]])})
    train = {"item": [1, 2, 3], "user": [0]}
    assert fingerprint(train, LAYOUT) == fingerprint({**train, "item": [3, 1, 2]}, other)
    others = [
        {"item": [1, 2], "user": [0]},
        {"item": [0], "user": [1, 2, 3]},
        {"item": [1, 2, 4], "user": [0]},
    ]
    assert len({fingerprint(each, LAYOUT) for each in [train, *others]}) == 4
