"""DistDGL trainers that use Rudder; arguments: what they do, a JSON object of options of `attach`."""

import json
import os
import signal
import sys
from typing import Any

import pytest

import rudder  # isort: split

import dgl
import torch

from rudder.errors import TransportError

scenario = sys.argv[1]
options: dict[str, Any] = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}


def start(name: str) -> Any:
    dgl.distributed.initialize("the launcher knows better")
    torch.distributed.init_process_group("gloo")
    return dgl.distributed.DistGraph(name)


def loader_of(g: Any, nodes: Any, batch_size: int = 32) -> Any:
    sampler = dgl.dataloading.NeighborSampler([3, 3])
    return dgl.dataloading.DistNodeDataLoader(g, nodes, sampler, batch_size=batch_size, shuffle=True)


def split(g: Any, count: int | None = None) -> torch.Tensor:
    mask = torch.ones(g.num_nodes(), dtype=torch.bool)
    return dgl.distributed.node_split(mask, g.get_partition_book())[:count]


def right(g: Any, rows: torch.Tensor, ids: torch.Tensor) -> bool:
    """Node i of the ring has 3 i + c in column c, and `orig` tells i."""
    orig = g.ndata["orig"][ids]
    return torch.equal(rows, torch.stack([orig * 3 + column for column in range(8)], 1))


def train() -> None:
    """Two tensors, uneven batches under DDP's join, evaluations in between, an epoch left early."""
    g = start("ring")
    feats = rudder.attach(g, "feats", **options)
    orig = rudder.attach(g, "orig", at="seeds", prior="none")
    job = feats.prefetcher.source.job
    assert (job.trainers, job.nodes) == (torch.distributed.get_world_size(), g.num_nodes())
    assert job.edges == g.num_edges()
    rank = g.rank()
    nodes = split(g, 300 if rank == 0 else 170)
    loader = rudder.prefetch(loader_of(g, nodes), feats, orig)
    evaluation = rudder.prefetch(loader_of(g, split(g, 64)), feats, orig)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    trained: list[int] = []

    def evaluate() -> None:
        seen = []
        for inputs, seeds, _ in evaluation:
            assert right(g, feats[inputs], inputs)
            seen += orig[seeds].tolist()
        assert sorted(seen) == sorted(g.ndata["orig"][split(g, 64)].tolist())

    for epoch in range(3):
        trained.clear()
        with model.join():
            for step, (inputs, seeds, blocks) in enumerate(loader):
                rows = feats[inputs]
                assert right(g, rows, inputs)
                assert torch.equal(orig[seeds], g.ndata["orig"][seeds])
                assert blocks[0].num_src_nodes() == len(inputs)
                trained += seeds.tolist()
                model(rows.float()).sum().backward()
                optimizer.step()
                optimizer.zero_grad()
                if epoch == 1 and step == 2:
                    break
        if epoch != 1:
            assert sorted(trained) == sorted(nodes.tolist()), (epoch, len(trained))
        evaluate()
    plan = feats.replan(train_nids=nodes, fanouts=[3, 3], batch_size=32)
    assert plan.prior == "vip"
    report(g, feats)


def hetero() -> None:
    """Every dtype on two node types, and edge features, against the stock pulls."""
    g = start("zoo")
    attached = {
        name: rudder.attach(g, name, ntype=ntype, prior="none", **options)
        for ntype in ("user", "item")
        for name in g.nodes[ntype].data
        if name.startswith(("x_", "y_"))
    }
    weights = rudder.attach(g, "w", etype="rates", **options)
    loader = loader_of(g, {"user": split_users(g)}, 16)
    compared = 0
    for inputs, _, blocks in rudder.prefetch(loader, weights, *attached.values()):
        for name, feats in attached.items():
            ntype = "user" if name[0] == "x" else "item"
            got, expected = feats[inputs[ntype]], g.nodes[ntype].data[name][inputs[ntype]]
            assert got.dtype == expected.dtype
            assert torch.equal(got.reshape(-1).view(torch.uint8), expected.reshape(-1).view(torch.uint8)), (
                name
            )
            compared += len(got)
        for block in blocks:
            if ("user", "rates", "item") in block.canonical_etypes:
                edges = block.edges[("user", "rates", "item")].data[dgl.EID]
                assert torch.equal(weights[edges], g.edges["rates"].data["w"][edges])
    assert compared > 0
    assert weights.metrics().rows_read_unplanned == 0
    report(g, weights)


def split_users(g: Any) -> torch.Tensor:
    mask = torch.ones(g.num_nodes("user"), dtype=torch.bool)
    nodes: torch.Tensor = dgl.distributed.node_split(mask, g.get_partition_book(), ntype="user")
    return nodes


def write() -> None:
    """A trainer sees its own writes at once, and those of others after `invalidate`."""
    g = start("ring")
    feats = rudder.attach(g, "feats", capacity=1.0, prior="none", **options)
    theirs = torch.arange(600)[g.rank() :: 2]
    everything = torch.arange(600)
    for value in range(1, 30):
        feats[everything]
        feats[theirs] = torch.full((len(theirs), 8), value * 10 + g.rank())
        assert (feats[theirs] == value * 10 + g.rank()).all(), value
        torch.distributed.barrier()
        feats.invalidate()
        expected = torch.tensor([value * 10, value * 10 + 1]).repeat(300)
        assert torch.equal(feats[everything][:, 3], expected), value
        torch.distributed.barrier()
    report(g, feats)


class Gives:
    """Answers the share of memory that it was made with."""

    def __init__(self, share: int) -> None:
        self.share = share

    def decide(self, evidence: rudder.Evidence) -> rudder.Plan:
        return evidence.plan.but(share=self.share)


def trade() -> None:
    """Of each host's trainers one gives a quarter of its memory, and then the other takes it."""
    g = start("ring")
    gives = int(os.environ["LOCAL_RANK"]) == 0
    controller, plan = Gives(75 if gives else 125), rudder.Plan(interval=4)
    feats = rudder.attach(
        g, "feats", capacity=0.5, verify=True, prior="none", controller=controller, plan=plan
    )
    loader = rudder.prefetch(loader_of(g, split(g), 16), feats)
    own, shares = feats.metrics().capacity_rows, []
    for _ in range(2):
        for _ in range(2):  # the one that takes finds nothing in the first turn
            for inputs, _, _ in loader:
                assert right(g, feats[inputs], inputs)
        shares.append(feats.plan.share)
        torch.distributed.barrier()
    metrics = feats.metrics()
    assert shares[-1] == controller.share, shares
    assert metrics.capacity_rows == own * controller.share // 100, (own, metrics.capacity_rows)
    report(g, feats)
    torch.distributed.barrier()  # who leaves takes its own back


def dies() -> None:
    """One trainer raises, or is killed, or waits in mid-epoch while minibatches are sampled ahead."""
    g = start("ring")
    feats = rudder.attach(g, "feats", prior="none")
    for _ in range(3):
        for step, (inputs, _, _) in enumerate(rudder.prefetch(loader_of(g, split(g)), feats)):
            feats[inputs]
            if step == 3:
                print("in mid-epoch", flush=True)
                if options["end"] == "raise" and g.rank() == 1:
                    raise ValueError("the trainer's own words")
                if options["end"] == "killed" and g.rank() == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
                if options["end"] == "wait":
                    signal.pause()


def forced() -> None:
    """A transport that cannot run here is refused, with the reason."""
    g = start("ring")
    os.environ["RUDDER_LOCAL_HOSTS"] = str(g.rank())
    with pytest.raises(TransportError, match="cannot be opened from here"):
        rudder.attach(g, "feats", transport="shm", prior="none")
    print("refused", flush=True)


def report(g: Any, feats: Any) -> None:
    """One line for the test: routes and totals."""
    routes = [str(state["transport"]) for part, state in enumerate(feats.route_state()) if part != g.rank()]
    total = feats.metrics()
    print("REPORT " + json.dumps({"rank": g.rank(), "routes": routes, **total.to_json()}), flush=True)


if __name__ == "__main__":
    globals()[scenario]()
