"""GraphSAGE with DistDGL and Rudder: two lines differ from a stock script, each marked with "Rudder:".

Run it on this machine as two hosts (no root needed):

    rudder partition generated --out parts --parts 2
    rudder launch --local 2 --part-config parts/generated.json -- examples/node_classification.py generated

Under `--ip-config FILE`, or inside a SLURM allocation, the same script runs on several machines.
"""

import argparse
import os
import time

import rudder  # before dgl: lets DGL 2.1 run on current torch

# isort: split
import dgl
import torch
import torch.nn.functional as F  # noqa: N812
from torch.nn.parallel import DistributedDataParallel


class SAGE(torch.nn.Module):
    """Two layers of GraphSAGE."""

    def __init__(self, in_size: int, hidden: int, classes: int) -> None:
        """Sizes of features, of what is between the layers, and of the answer."""
        super().__init__()
        self.first = dgl.nn.SAGEConv(in_size, hidden, "mean")
        self.second = dgl.nn.SAGEConv(hidden, classes, "mean")

    def forward(self, blocks, x):
        """Logits of the seeds."""
        return self.second(blocks[1], F.relu(self.first(blocks[0], x)))


def main() -> None:
    """Train, then test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("graph_name", help="name of the partitioned graph")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=500)
    parser.add_argument("--capacity", default="25%", help="rows of the buffer: 25%% of the halo, or 2GiB")
    args = parser.parse_args()

    dgl.distributed.initialize(os.environ["DGL_IP_CONFIG"])  # servers stay in here
    torch.distributed.init_process_group("gloo")
    g = dgl.distributed.DistGraph(args.graph_name)
    book = g.get_partition_book()
    labels = g.ndata["labels"]
    feats = rudder.attach(g, "features", args.capacity)  # Rudder: was g.ndata["features"]

    train_nodes = dgl.distributed.node_split(g.ndata["train_mask"], book, force_even=True)
    loader = dgl.dataloading.DistNodeDataLoader(
        g, train_nodes, dgl.dataloading.NeighborSampler([10, 10]), batch_size=args.batch_size, shuffle=True
    )
    loader = rudder.prefetch(loader, feats)  # Rudder: samples ahead

    classes = int(labels[torch.arange(g.num_nodes())].max()) + 1
    model = DistributedDataParallel(SAGE(feats.shape[1], 64, classes))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for epoch in range(args.epochs):
        began = time.perf_counter()
        with model.join():
            for input_nodes, seeds, blocks in loader:
                loss = F.cross_entropy(model(blocks, feats[input_nodes]), labels[seeds])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        print(f"epoch {epoch}: {time.perf_counter() - began:.1f} s, loss {loss.item():.4f}", flush=True)

    test_nodes = dgl.distributed.node_split(g.ndata["test_mask"], book, force_even=False)
    tests = dgl.dataloading.DistNodeDataLoader(
        g, test_nodes, dgl.dataloading.NeighborSampler([10, 10]), batch_size=args.batch_size
    )
    counts = torch.zeros(2)
    with torch.no_grad():
        for input_nodes, seeds, blocks in tests:
            answers = model.module(blocks, feats[input_nodes]).argmax(dim=1)
            counts += torch.tensor([int((answers == labels[seeds]).sum()), len(seeds)])
    torch.distributed.all_reduce(counts)
    if g.rank() == 0:
        used = feats.metrics()
        print(f"test accuracy {counts[0] / counts[1]:.4f}", flush=True)
        print(f"remote rows: {used.rows_requested:,} requested, {used.rows_moved:,} moved", flush=True)


if __name__ == "__main__":
    main()
