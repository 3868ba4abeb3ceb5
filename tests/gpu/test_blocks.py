"""`rudder.prefetch(device=)` over loaders of DGL: blocks and rows on a GPU, a real one or the simulated one.

Both run the same test, so that it is right before it first sees a GPU; only what a real one alone can show is
asked of it alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import profiles
import pytest
from profiles import PROFILED, WARM

import rudder
from rudder.gpu import why_not

torch: Any = pytest.importorskip("torch")
dgl: Any = pytest.importorskip("dgl")

NODES, EPOCHS = 2000, 2


class Place(NamedTuple):
    """Where a test's rows and blocks go."""

    #: For `rudder.attach` and for `rudder.prefetch`.
    table: Any
    blocks: str
    #: What the GPU was asked for is done.
    finish: Callable[[], None]
    #: Kernels that were launched for rows; None where nobody counts.
    launches: Callable[[], int | None]
    #: What so many steps did, WARM + PROFILED of them, that may wait for the GPU.
    waits_of: Callable[[Callable[[], None]], dict[str, int]]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One partition, with features on nodes and on edges."""
    torch.manual_seed(0)
    dgl.seed(0)
    made = dgl.rand_graph(NODES, 12 * NODES)
    made.ndata["x"] = torch.randn(NODES, 33)
    made.edata["w"] = torch.randn(12 * NODES, 4).half()
    folder = tmp_path_factory.mktemp("blocks")
    dgl.distributed.partition_graph(made, "blocks", 1, str(folder))
    dgl.distributed.initialize("unused")
    return dgl.distributed.DistGraph("blocks", part_config=str(Path(folder) / "blocks.json"))


@pytest.fixture(params=["simulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def place_of_rows(request: pytest.FixtureRequest, simulated: Any) -> Place:
    """The GPU: made of memory, or real where there is one."""
    if request.param == "simulated":
        gpu, runtime = simulated("manual")

        def waits_of(step: Callable[[], None]) -> dict[str, int]:
            for _ in range(WARM + PROFILED):
                step()
                runtime.step()
            return {"waits": runtime.waits} if runtime.waits else {}

        return Place(gpu, "cpu", runtime.run, lambda: int(runtime.launches), waits_of)
    reason = why_not() or (None if torch.cuda.is_available() else "this torch has no CUDA")
    if reason is not None:
        pytest.skip(f"no GPU: {reason}")
    return Place("cuda", "cuda", torch.cuda.synchronize, lambda: None, profiles.waits_of)


@pytest.fixture
def place(place_of_rows: Place) -> Place:
    """The same, where DGL was built for it."""
    if place_of_rows.blocks == "cuda":
        try:
            dgl.graph(([0], [1])).to("cuda")
        except dgl.DGLError as error:
            pytest.skip(f"this DGL ({dgl.__version__}) has no CUDA: {error}")
    return place_of_rows


def device_of(tensor: Any) -> str:
    return str(tensor.device.type)


def test_blocks_and_rows_are_on_the_gpu_when_they_are_handed_over(graph: Any, place: Place) -> None:
    nodes = rudder.attach(graph, "x", device=place.table, prior="none")  # no tier, which launches on its own
    edges = rudder.attach(graph, "w", device=place.table, prior="none")
    sampler = dgl.dataloading.NeighborSampler([4, 6])
    loader = dgl.dataloading.DistNodeDataLoader(graph, torch.arange(600), sampler, batch_size=100)
    seen = []
    with rudder.prefetch(loader, nodes, edges, device=place.blocks, epochs=EPOCHS) as ahead:
        for _ in range(EPOCHS):
            for inputs, seeds, blocks in ahead:
                place.finish()
                launches = place.launches()
                rows = nodes[inputs]
                weights = [edges[block.edata[dgl.EID]] for block in blocks]
                assert place.launches() == launches  # they were gathered before they were asked for
                assert {device_of(each) for each in (inputs, seeds, rows, *weights)} == {place.blocks}
                assert torch.equal(rows.cpu(), graph.ndata["x"][inputs.cpu()])
                for block, weight in zip(blocks, weights):
                    assert str(block.device) in (place.blocks, f"{place.blocks}:0")
                    stock = graph.edata["w"][block.edata[dgl.EID].cpu()]
                    assert torch.equal(weight.cpu(), stock)
                    check_sum(block, weight, stock)
                seen += seeds.tolist()
    assert sorted(seen) == sorted(EPOCHS * list(range(600)))
    for feats in (nodes, edges):
        feats.close()


def check_sum(block: Any, weight: Any, stock: Any) -> None:
    """A layer's message passing over the block, where it is, against the same sum on the CPU."""
    block.edata["w"] = weight.float()
    block.update_all(dgl.function.copy_e("w", "m"), dgl.function.sum("m", "sum"))
    expected = torch.zeros(block.num_dst_nodes(), stock.shape[1])
    expected.index_add_(0, block.edges(order="eid")[1].cpu().long(), stock.float())
    assert torch.allclose(block.dstdata["sum"].cpu(), expected, atol=1e-4)


def test_a_gpu_that_falls_behind_changes_no_row(graph: Any, place: Place) -> None:
    """Minibatches are handed over while the GPU has done nothing yet; what they hold is right in the end."""
    plan = rudder.Plan(device_share=50)
    feats = rudder.attach(graph, "x", device=place.table, prior="none", capacity=0.1, plan=plan)
    sampler = dgl.dataloading.NeighborSampler([5])
    loader = dgl.dataloading.DistNodeDataLoader(graph, torch.arange(NODES), sampler, batch_size=100)
    kept = []
    with rudder.prefetch(loader, feats, device=place.blocks, epochs=1) as ahead:
        for inputs, _, _ in ahead:
            if place.blocks == "cuda":
                torch.cuda._sleep(20_000_000)  # about ten milliseconds before whatever is queued next
            kept.append((inputs, feats[inputs]))
    place.finish()
    assert len(kept) == NODES // 100
    for inputs, rows in kept:
        assert torch.equal(rows.cpu(), graph.ndata["x"][inputs.cpu()])
    feats.close()


@pytest.mark.parametrize("prefetched", [True, False])
def test_a_step_with_attached_features_waits_for_nothing(
    graph: Any, place_of_rows: Place, prefetched: bool
) -> None:
    """Rows of `rudder.prefetch(device=)`, and of ids that it did not yield. Minibatches without blocks, which
    need a DGL with CUDA on a GPU.
    """
    place = place_of_rows
    feats = rudder.attach(graph, "x", device=place.table, prior="none")
    minibatches = [(torch.randint(NODES, (400,)), torch.arange(10), []) for _ in range(WARM + PROFILED + 10)]
    total = torch.zeros((), device=place.blocks)
    with rudder.prefetch(minibatches, feats, device=place.blocks, epochs=1) as ahead:
        given = iter(ahead) if prefetched else iter(minibatches)

        def step() -> None:
            nonlocal total
            inputs = next(given)[0]
            total = total + feats[inputs].sum()

        assert place.waits_of(step) == {}
    place.finish()
    feats.close()
