"""attach and prefetch in DGL's standalone mode: one process, one partition, every kind of tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rudder
from rudder.errors import ConfigError, IdError

torch = pytest.importorskip("torch")
dgl = pytest.importorskip("dgl")

DTYPES = [
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.int8,
    torch.uint8,
    torch.int16,
    torch.int64,
    torch.bool,
]
RATES = ("user", "rates", "item")


def named(letter: str, dtype: Any) -> str:
    return f"{letter}_{dtype}".replace("torch.", "")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Users and items, with a tensor of each dtype on both, and edge data."""
    torch.manual_seed(0)
    ends = (torch.randint(0, 500, (3000,)), torch.randint(0, 300, (3000,)))
    made = dgl.heterograph({RATES: ends, ("item", "rated", "user"): ends[::-1]}, {"user": 500, "item": 300})
    for dtype in DTYPES:
        made.nodes["user"].data[named("x", dtype)] = (torch.randn(500, 2, 3) * 10).to(dtype)
        made.nodes["item"].data[named("y", dtype)] = (torch.randn(300) * 10).to(dtype)
    for ntype in ("user", "item"):
        made.nodes[ntype].data["both"] = torch.zeros(made.num_nodes(ntype), 2)
    made.edges["rates"].data["w"] = torch.randn(3000, 3)
    folder = tmp_path_factory.mktemp("standalone")
    dgl.distributed.partition_graph(made, "standalone", 1, str(folder))
    config = Path(folder) / "standalone.json"
    dgl.distributed.initialize("unused")
    return dgl.distributed.DistGraph("standalone", part_config=str(config))


def attach(graph: Any, *args: Any, **kwargs: Any) -> Any:
    return rudder.attach(graph, *args, **{"prior": "none", **kwargs})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["x", "y"])
def test_reads_as_the_dist_tensor_does(graph: Any, name: str, dtype: Any) -> None:
    name = named(name, dtype)
    stock = graph.nodes["user" if name[0] == "x" else "item"].data[name]
    feats = attach(graph, name)
    assert (feats.shape, feats.dtype, feats.name, len(feats)) == (
        stock.shape,
        stock.dtype,
        stock.name,
        len(stock),
    )
    assert feats.part_policy is stock.part_policy
    assert feats.kvstore_key == stock.kvstore_key
    for index in (torch.tensor([3, 1, 1, 299]), [1, 2, 3], slice(2, 9), 5, np.array([3, 2]), torch.arange(0)):
        got, expected = feats[index], stock[index]
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        assert torch.equal(got, expected)
    for index in (torch.tensor([4, 5], dtype=torch.int32), torch.tensor(7), slice(None), []):
        assert torch.equal(
            feats[index], stock[torch.arange(len(stock))[index if index != [] else slice(0, 0)].reshape(-1)]
        )
    feats.close()


@pytest.mark.parametrize(
    "index", [[500], [-1], 10**9, torch.tensor([0.5]), torch.ones(500, dtype=torch.bool), "a", slice(0, 9, 2)]
)
def test_what_is_no_index_is_refused(graph: Any, index: Any) -> None:
    feats = attach(graph, "x_float32")
    with pytest.raises(IdError):
        feats[index]
    feats.close()


def test_writes_go_through(graph: Any) -> None:
    feats = attach(graph, "x_float64")
    ids = torch.tensor([7, 3, 499])
    rows = torch.randn(3, 2, 3, dtype=torch.float64)
    feats[ids] = rows
    assert torch.equal(feats[ids], rows)
    assert torch.equal(graph.nodes["user"].data["x_float64"][ids], rows)
    feats.close()


def test_a_loader_over_two_node_types_and_edges(graph: Any) -> None:
    users, items, weights = attach(graph, "x_float32"), attach(graph, "y_int64"), attach(graph, "w")
    sampler = dgl.dataloading.NeighborSampler([3, 4])
    loader = dgl.dataloading.DistNodeDataLoader(graph, {"user": torch.arange(90)}, sampler, batch_size=20)
    seen = []
    with rudder.prefetch(loader, users, items, weights) as ahead:
        assert len(ahead) == 5
        for _ in range(2):
            for inputs, seeds, blocks in ahead:
                assert torch.equal(
                    users[inputs["user"]], graph.nodes["user"].data["x_float32"][inputs["user"]]
                )
                assert torch.equal(items[inputs["item"]], graph.nodes["item"].data["y_int64"][inputs["item"]])
                for block in blocks:
                    if RATES in block.canonical_etypes:
                        edges = block.edges[RATES].data[dgl.EID]
                        assert torch.equal(weights[edges], graph.edges["rates"].data["w"][edges])
                seen += seeds["user"].tolist()
    assert sorted(seen) == sorted([*range(90), *range(90)])
    for feats in (users, items, weights):
        assert feats.metrics().minibatches == 10
        feats.close()


def test_a_function_says_which_ids(graph: Any) -> None:
    feats = attach(graph, "x_int8", at=lambda minibatch: [minibatch[1]["user"], minibatch[0]["user"]])
    loader = dgl.dataloading.DistNodeDataLoader(
        graph, {"user": torch.arange(40)}, dgl.dataloading.NeighborSampler([3]), batch_size=10
    )
    for inputs, seeds, _ in rudder.prefetch(loader, feats):
        assert torch.equal(feats[inputs["user"]], graph.nodes["user"].data["x_int8"][inputs["user"]])
        assert torch.equal(feats[seeds["user"]], graph.nodes["user"].data["x_int8"][seeds["user"]])
    feats.close()


def test_a_tensor_that_must_be_named_better(graph: Any) -> None:
    with pytest.raises(ConfigError, match="on nodes of type item and on nodes of type user"):
        attach(graph, "both")
    feats = attach(graph, "both", ntype="user")
    assert len(feats) == 500
    feats.close()
    for wrong in ({"which": "nothing"}, {"which": "both", "ntype": "x"}, {"which": "w", "etype": "x"}):
        with pytest.raises(ConfigError, match=r"there (is|are)"):
            attach(graph, **wrong)
    assert attach(graph, "w", etype="rates").shape == (3000, 3)


@pytest.mark.parametrize(
    "wrong", [{"at": "edges"}, {"at": "nowhere"}, {"transport": "pigeon"}, {"capacity": "lots"}]
)
def test_settings_that_cannot_work_are_refused(graph: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        attach(graph, "x_float32", **wrong)


def test_a_loader_without_ids_where_they_are_expected(graph: Any) -> None:
    feats = attach(graph, "x_float32")
    with rudder.prefetch([("text", 1)], feats) as ahead, pytest.raises(ConfigError, match="at="):
        next(iter(ahead))
    feats.close()


def test_edge_loaders_with_negative_samples(graph: Any) -> None:
    feats = attach(graph, "x_float32")
    loader = dgl.dataloading.DistEdgeDataLoader(
        graph,
        {RATES: torch.arange(60)},
        dgl.dataloading.NeighborSampler([3]),
        batch_size=16,
        negative_sampler=dgl.dataloading.negative_sampler.Uniform(2),
    )
    batches = 0
    for inputs, pairs, negatives, blocks in rudder.prefetch(loader, feats, device="cpu"):
        assert torch.equal(feats[inputs["user"]], graph.nodes["user"].data["x_float32"][inputs["user"]])
        assert negatives.num_edges(RATES) == 2 * pairs.num_edges(RATES)
        assert blocks[0].num_src_nodes("user") == len(inputs["user"])
        batches += 1
    assert batches == 4
    feats.close()


def test_rows_and_blocks_on_a_gpu(graph: Any, simulated: Any) -> None:
    gpu, runtime = simulated("manual")
    users, weights = attach(graph, "x_float32", device=gpu), attach(graph, "w", device=gpu)
    items = attach(graph, "y_int64")  # stays in main memory
    stock = graph.nodes["user"].data["x_float32"]
    sampler = dgl.dataloading.NeighborSampler([3, 4])
    loader = dgl.dataloading.DistNodeDataLoader(graph, {"user": torch.arange(90)}, sampler, batch_size=20)
    batches = 0
    with rudder.prefetch(loader, users, weights, items, device="cpu") as ahead:
        for inputs, _, blocks in ahead:
            runtime.run()
            launches = runtime.launches
            got = users[inputs["user"]]
            assert torch.equal(got, stock[inputs["user"]])
            for block in blocks:
                if RATES in block.canonical_etypes:
                    edges = block.edges[RATES].data[dgl.EID]
                    assert torch.equal(weights[edges], graph.edges["rates"].data["w"][edges])
            assert runtime.launches == launches  # gathered before it was asked for
            assert torch.equal(items[inputs["item"]], graph.nodes["item"].data["y_int64"][inputs["item"]])
            batches += 1
    assert batches == 5
    assert runtime.waits == 0
    for feats in (users, weights, items):
        feats.close()


def test_ids_that_were_handed_over_are_not_asked_of_the_gpu(graph: Any) -> None:
    from rudder.integrations.dgl_device import KnownIds

    known, tensor, other = KnownIds(), torch.arange(5), torch.arange(5)
    ids = np.arange(5)
    known.add(tensor, ids)
    assert known.of(tensor) is ids
    assert known.of(other) is None
    tensor += 1
    assert known.of(tensor) is None  # it holds other ids now
