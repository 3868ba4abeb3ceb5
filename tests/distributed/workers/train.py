"""A small DistDGL script without a word of Rudder; argument 1: epochs, argument 2 (optional): how it ends."""

import os
import signal
import sys

import dgl
import torch

epochs = int(sys.argv[1])
end = sys.argv[2] if len(sys.argv) > 2 else ""


def main() -> None:
    dgl.distributed.initialize("the launcher knows better")
    torch.distributed.init_process_group("gloo")
    g = dgl.distributed.DistGraph("ring")
    nodes = dgl.distributed.node_split(torch.ones(g.num_nodes(), dtype=torch.bool), g.get_partition_book())
    # Newest DGL's spelling, which 2.1 does not have.
    loader = dgl.distributed.DistNodeDataLoader(
        g, nodes, dgl.dataloading.NeighborSampler([2, 2]), batch_size=32, shuffle=True
    )
    steps = 0
    for epoch in range(epochs):
        for step, (input_nodes, seeds, blocks) in enumerate(loader):
            rows = g.ndata["feats"][input_nodes]
            orig = g.ndata["orig"][input_nodes]
            assert torch.equal(rows, torch.stack([orig * 3 + column for column in range(8)], 1))
            assert len(blocks) == 2
            assert len(seeds) <= 32
            steps += 1
            if end and epoch == 1 and step == 2:
                finish_otherwise(g.rank())
    print(f"rank {os.environ['RANK']} made {steps} steps over {len(nodes)} nodes", flush=True)


def finish_otherwise(rank: int) -> None:
    print("in mid-epoch", flush=True)
    if end == "raise" and rank == 1:
        raise ValueError("the trainer's own words")
    if end == "killed" and rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "wait":
        while True:
            signal.pause()


if __name__ == "__main__":
    main()
