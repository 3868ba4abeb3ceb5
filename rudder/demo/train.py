"""GraphSAGE with DistDGL: the script that every process of `rudder demo` runs, without and with `--rudder`.

It is written as a user of DistDGL would write it. Rudder's part are the two lines under `if args.rudder`;
the meter, in both variants alike, measures what the demonstration shows.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import rudder  # before dgl: lets DGL 2.1 run on current torch

# isort: split
import dgl
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from dgl.dataloading import DistNodeDataLoader, NeighborSampler
from torch.nn.parallel import DistributedDataParallel

from rudder.config import ENV_RECORD
from rudder.demo.meter import Meter, tell
from rudder.demo.settings import parse_capacity, parse_fanout
from rudder.integrations.dgl_seeding import seed_sampling


class SAGE(torch.nn.Module):
    """GraphSAGE with mean aggregation, a layer for each hop."""

    def __init__(self, in_size: int, hidden: int, classes: int, layers: int) -> None:
        """Sizes of features, of what is between layers, and of the answer."""
        super().__init__()
        sizes = [in_size, *[hidden] * (layers - 1), classes]
        self.layers = torch.nn.ModuleList(dgl.nn.SAGEConv(a, b, "mean") for a, b in zip(sizes, sizes[1:]))

    def forward(self, blocks: list[Any], x: torch.Tensor) -> torch.Tensor:
        """Logits of the seeds from the features of the input nodes."""
        for number, (layer, block) in enumerate(zip(self.layers, blocks)):
            x = layer(block, x)
            if number < len(self.layers) - 1:
                x = F.relu(x)
        return x


def train(args: argparse.Namespace, g: Any) -> dict[str, Any]:
    """Train and evaluate; what this trainer found out."""
    fanout = list(parse_fanout(args.fanout))
    book = g.get_partition_book()
    meter = Meter(book.partid2nids(book.partid))
    nodes = dgl.distributed.node_split(g.ndata["train_mask"], book, force_even=True)
    test_nodes = dgl.distributed.node_split(g.ndata["test_mask"], book, force_even=False)
    loader = DistNodeDataLoader(g, nodes, NeighborSampler(fanout), batch_size=args.batch_size, shuffle=True)
    feats, labels = g.ndata["features"], g.ndata["labels"]

    began = time.perf_counter()
    if args.rudder:
        feats = rudder.attach(g, "features", **attach_options(args))
        loader = rudder.prefetch(loader, feats, window=args.window, epochs=args.epochs)
    seconds_attaching = time.perf_counter() - began

    classes = len(torch.unique(labels[torch.arange(g.num_nodes())]))
    model = DistributedDataParallel(SAGE(feats.shape[1], args.hidden, classes, len(fanout)))
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    steps = len(nodes) // args.batch_size + (len(nodes) % args.batch_size > 0)
    epoch_seconds, losses = [], []
    for epoch in range(args.epochs):
        began = time.perf_counter()
        with model.join():
            for step, (input_nodes, seeds, blocks) in enumerate(meter.loader(loader)):
                x = meter.rows(feats, input_nodes)
                y = meter.labels(labels, seeds)
                loss = F.cross_entropy(model(blocks, x), y)
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                losses.append(loss.item())
                if g.rank() == 0:
                    tell(
                        step=epoch * steps + step + 1, steps=args.epochs * steps, epoch=epoch, loss=losses[-1]
                    )
        epoch_seconds.append(time.perf_counter() - began)
        meter.end_epoch()
    found = {
        "epoch_seconds": epoch_seconds,
        "losses": losses,
        "seconds_attaching": seconds_attaching,
        "row_bytes": feats.dtype.itemsize * feats.shape[1],
        **meter.totals(),
    }
    if args.rudder:
        found["rudder"] = feats.metrics().to_json()
        found["routes"] = feats.route_state()
    # A record holds the training alone: its replay moves the rows that the report names.
    evaluated = g.ndata["features"] if os.environ.get(ENV_RECORD) else feats
    correct, tested = evaluate(args, g, model.module, evaluated, labels, test_nodes)
    if args.rudder:
        found["rudder_with_evaluation"] = feats.metrics().to_json()
    return {**found, "correct": correct, "tested": tested}


def attach_options(args: argparse.Namespace) -> dict[str, Any]:
    """What the command line says of `rudder.attach`."""
    plan = rudder.Plan() if args.depth is None else rudder.Plan(depth=args.depth)
    return {
        "capacity": parse_capacity(args.capacity),
        "policy": args.policy,
        "transport": args.transport,
        "plan": plan,
        "verify": "count" if args.verify else False,
    }


@torch.no_grad()
def evaluate(
    args: argparse.Namespace, g: Any, model: SAGE, feats: Any, labels: Any, nodes: torch.Tensor
) -> tuple[int, int]:
    """Sampled inference on this trainer's test nodes: how many it got right, and of how many."""
    sampler = NeighborSampler(list(parse_fanout(args.fanout)))
    loader = DistNodeDataLoader(g, nodes, sampler, batch_size=args.batch_size, shuffle=False)
    correct = 0
    steps = -(-len(nodes) // args.batch_size)
    for step, (input_nodes, seeds, blocks) in enumerate(loader):
        answers = model(blocks, feats[input_nodes]).argmax(dim=1)
        correct += int((answers == labels[seeds]).sum())
        if g.rank() == 0:
            tell(evaluated=step + 1, evaluations=steps)
    return correct, len(nodes)


def main() -> None:
    """Parse, join the job, train, write what this trainer found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("graph_name")
    parser.add_argument("--rudder", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--fanout", required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--capacity", default="0.25")
    parser.add_argument("--policy", default="lookahead")
    parser.add_argument("--transport")
    parser.add_argument("--window", type=float)
    parser.add_argument("--depth", type=int)
    parser.add_argument("--verify", action="store_true")
    args = parser.parse_args()

    # Which transport was chosen, and why, goes to the run's log.
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    logging.getLogger("rudder").setLevel(logging.INFO)
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    seed_sampling(args.seed)
    dgl.distributed.initialize(os.environ["DGL_IP_CONFIG"])
    torch.distributed.init_process_group("gloo")
    g = dgl.distributed.DistGraph(args.graph_name)
    found = train(args, g)
    rank = torch.distributed.get_rank()
    (args.out / f"trainer-{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    # Left to the end of the process, gloo's threads may still run when they are destroyed.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
