"""What waits compactly comes out as it went in: graphs, tensors and what holds them."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rudder  # noqa: F401  (lets DGL import)

torch = pytest.importorskip("torch")
dgl = pytest.importorskip("dgl")
blocks_module = pytest.importorskip("rudder.integrations.dgl_blocks")
Packer, Runs, Unpacker, narrow = (
    getattr(blocks_module, name) for name in ("Packer", "Runs", "Unpacker", "narrow")
)

Pair = namedtuple("Pair", "left right")


def round_trip(value: Any) -> Any:
    return Unpacker().unpack(Packer().pack(value))


class AsOnAGpu(Unpacker):
    """Puts minibatches together as it does on a GPU, in main memory."""

    def __init__(self) -> None:
        super().__init__()
        self.on_gpu = True

    def upload(self, tensor: Any) -> Any:
        assert tensor.dtype not in UNSIGNED  # which torch cannot compute with
        return tensor.clone()


UNSIGNED = [getattr(torch, name) for name in ("uint16", "uint32", "uint64") if hasattr(torch, name)]


def assert_same_tensor(one: Any, other: Any) -> None:
    assert one.dtype == other.dtype
    assert one.shape == other.shape
    # Bit for bit, so that NaN equals itself; a view as bytes needs a dimension.
    assert torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))


def assert_same_graph(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    assert one.idtype == other.idtype
    assert one.canonical_etypes == other.canonical_etypes
    assert (one.srctypes, one.dsttypes) == (other.srctypes, other.dsttypes)
    assert one.is_block == other.is_block
    for ntype in one.srctypes:
        assert one.num_src_nodes(ntype) == other.num_src_nodes(ntype)
        assert_same_frame(one.srcnodes[ntype].data, other.srcnodes[ntype].data)
    for ntype in one.dsttypes:
        assert one.num_dst_nodes(ntype) == other.num_dst_nodes(ntype)
        assert_same_frame(one.dstnodes[ntype].data, other.dstnodes[ntype].data)
    for etype in one.canonical_etypes:
        for mine, theirs in zip(
            one.edges(form="all", order="eid", etype=etype), other.edges(form="all", order="eid", etype=etype)
        ):
            assert_same_tensor(mine, theirs)
        assert_same_frame(one.edges[etype].data, other.edges[etype].data)


def assert_same_frame(one: Any, other: Any) -> None:
    assert list(one) == list(other)
    for name in one:
        assert_same_tensor(one[name], other[name])


ETYPES = [("user", "rates", "item"), ("user", "knows", "user"), ("item", "like", "item")]


@st.composite
def blocks(draw: st.DrawFn) -> Any:
    """A block of any shape: empty relations, isolated nodes, runs or none, any frames and index type."""
    idtype = draw(st.sampled_from([torch.int32, torch.int64]))
    etypes = draw(st.lists(st.sampled_from(ETYPES), min_size=1, max_size=3, unique=True))
    count = st.integers(0, 40)
    sources = {ntype: draw(count) for ntype in sorted({etype[0] for etype in etypes})}
    targets = {ntype: draw(count) for ntype in sorted({etype[2] for etype in etypes})}
    seed = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    data = {}
    for etype in etypes:
        edges = draw(st.integers(0, 90)) if sources[etype[0]] and targets[etype[2]] else 0
        src = torch.randint(0, max(1, sources[etype[0]]), (edges,), generator=seed, dtype=idtype)
        dst = torch.randint(0, max(1, targets[etype[2]]), (edges,), generator=seed, dtype=idtype)
        data[etype] = (src, dst.sort().values if draw(st.booleans()) else dst)
    block = dgl.create_block(data, sources, targets, idtype=idtype)
    for frame, rows in [
        *((block.srcnodes[ntype].data, rows) for ntype, rows in sources.items()),
        *((block.dstnodes[ntype].data, rows) for ntype, rows in targets.items()),
        *((block.edges[etype].data, len(data[etype][0])) for etype in etypes),
    ]:
        largest = draw(st.sampled_from([1, 200, 60_000, 2**31 - 1, 2**33, 2**62]))
        frame[dgl.NID] = torch.randint(0, largest, (rows,), generator=seed)
        if draw(st.booleans()):
            frame["weight"] = torch.randn((rows, 2), generator=seed).to(
                draw(st.sampled_from([torch.float16, torch.bfloat16, torch.float64]))
            )
            frame["flag"] = torch.rand((rows,), generator=seed) < 0.5
            frame["small"] = torch.randint(-90, 90, (rows, 3), generator=seed, dtype=torch.int16)
    return block


@settings(deadline=None, max_examples=80)
@given(blocks())
def test_blocks_round_trip(block: Any) -> None:
    assert_same_graph(block, round_trip(block))
    on_gpu = AsOnAGpu()
    assert_same_graph(block, on_gpu.unpack(Packer().pack(block)))
    assert len(on_gpu.tensors) >= 2 * len(block.canonical_etypes)  # of graphs, too


@settings(deadline=None)
@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=50),
    st.sampled_from([torch.int64, torch.int32, torch.int16, torch.uint8, torch.int8, torch.bool]),
)
def test_integer_tensors_round_trip(values: list[int], dtype: Any) -> None:
    tensor = torch.tensor(values, dtype=torch.int64).to(dtype)
    assert_same_tensor(tensor, round_trip(tensor))
    assert_same_tensor(tensor, AsOnAGpu().unpack(Packer().pack(tensor)))


@given(st.lists(st.integers(0, 5), max_size=60))
def test_runs_round_trip(values: list[int]) -> None:
    array = torch.tensor(values, dtype=torch.int64).numpy()
    assert Runs.of(array).expand(array.dtype).tolist() == values


def sampled() -> tuple[Any, Any, list[Any]]:
    torch.manual_seed(0)
    dgl.seed(0)
    graph = dgl.rand_graph(20_000, 400_000)
    return dgl.dataloading.NeighborSampler([10, 25]).sample(graph, torch.arange(400))  # type: ignore[no-any-return]


def test_a_sampled_minibatch_round_trips_and_computes_the_same() -> None:
    minibatch = sampled()
    inputs, seeds, copies = round_trip(minibatch)
    assert_same_tensor(inputs, minibatch[0])
    assert_same_tensor(seeds, minibatch[1])
    for block, copy in zip(minibatch[2], copies):
        assert_same_graph(block, copy)
        for each in (block, copy):
            each.srcdata["h"] = torch.arange(each.num_src_nodes(), dtype=torch.float32)
            each.update_all(dgl.function.copy_u("h", "m"), dgl.function.sum("m", "sum"))
        assert torch.equal(block.dstdata["sum"], copy.dstdata["sum"])


def test_shared_tensors_are_shared_again_and_others_are_not() -> None:
    inputs, _, blocks_ = sampled()
    assert blocks_[0].srcdata[dgl.NID].data_ptr() == inputs.data_ptr()
    assert blocks_[0].dstdata[dgl.NID].data_ptr() != inputs.data_ptr()
    inputs, _, copies = round_trip((inputs, None, blocks_))
    assert copies[0].srcdata[dgl.NID].data_ptr() == inputs.data_ptr()
    copies[0].dstdata[dgl.NID].fill_(-1)  # stored as the beginning of the inputs, but memory of its own
    assert (inputs >= 0).all()


def test_ten_bytes_an_edge_with_ids_and_all() -> None:
    minibatch = sampled()
    packer = Packer()
    packer.pack(minibatch)
    edges = sum(block.num_edges() for block in minibatch[2])
    nodes = len(minibatch[0])
    # 2 bytes a source (they fit 16 bits here), 4 an edge id, a run per destination, 2 an input node.
    assert packer.nbytes <= 7 * edges + 2 * nodes


def test_graphs_of_edge_loaders_and_containers_round_trip() -> None:
    pair = dgl.heterograph(
        {
            ("user", "rates", "item"): (torch.tensor([0, 1]), torch.tensor([1, 1])),
            ("item", "of", "user"): ([], []),
        },
        {"user": 3, "item": 2},
    )
    pair.edges["rates"].data["w"] = torch.tensor([0.5, 2.0])
    batched = dgl.batch([dgl.graph(([0], [1])), dgl.graph(([0, 1], [1, 2]))])
    value = {"a": [Pair(torch.arange(3), "text"), (pair,)], "b": (None, 1.5, batched), 3: torch.tensor(7)}
    copy = round_trip(value)
    assert list(copy) == ["a", "b", 3]
    assert type(copy["a"][0]) is Pair
    assert copy["a"][0].right == "text"
    assert_same_graph(pair, copy["a"][1][0])
    assert copy["b"][:2] == (None, 1.5)
    assert copy["b"][2].batch_num_nodes().tolist() == [2, 3]
    assert_same_tensor(copy[3], torch.tensor(7))


def test_what_needs_a_gradient_stays_as_it_is() -> None:
    tensor = torch.ones(3, requires_grad=True)
    assert round_trip([tensor])[0] is tensor


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([0, 255], "uint8"), ([-1, 1], "int8"), ([0, 256], "uint16"), ([2**31], "uint32"), ([2**32], "int64")],
)
def test_integers_take_the_fewest_bytes(values: list[int], dtype: str) -> None:
    assert narrow(torch.tensor(values).numpy()).dtype == dtype
