"""Ranks with a GPU each trade rows over NCCL: every rank keeps a shard of the features in its GPU's memory.

    torchrun --nproc-per-node 2 examples/trade_rows.py

In step, each rank asks for the rows of its minibatches, wherever they lie, and checks them. The ids of the
next minibatch are sent before the rows of this one are used: rows travel while a model would train.
"""

import argparse
import os

import torch
from torch.distributed.rendezvous import rendezvous

import rudder.nccl

ROWS_PER_RANK, WIDTH = 50_000, 128


def main() -> None:
    """Join, trade, check, leave."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--minibatches", type=int, default=20, help="of rank 0; each further rank has one more"
    )
    parser.add_argument("--rows", type=int, default=4096, help="of a minibatch")
    args = parser.parse_args()
    store, rank, ranks = next(rendezvous("env://"))
    device = int(os.environ["LOCAL_RANK"])

    # Row i of the whole table holds i, so that anybody can check it. This rank's part goes to its GPU.
    mine = torch.arange(rank * ROWS_PER_RANK, (rank + 1) * ROWS_PER_RANK, dtype=torch.float32)
    shard = mine.unsqueeze(1).repeat(1, WIDTH).to(f"cuda:{device}")

    generator = torch.Generator().manual_seed(rank)
    minibatches = [
        torch.randint(ranks * ROWS_PER_RANK, (args.rows,), generator=generator)
        for _ in range(args.minibatches + rank)
    ]
    with rudder.nccl.Exchange(store, rank, ranks, shard, device=device) as exchange:
        ahead = exchange.start(minibatches[0])
        for number, ids in enumerate(minibatches):
            now = ahead
            if number + 1 < len(minibatches):
                ahead = exchange.start(minibatches[number + 1])
            x = now.rows()  # [len(ids), WIDTH] on the GPU; here a model would train
            assert torch.equal(x[:, 0].cpu().long(), ids), f"rank {rank}: wrong rows"
        exchange.drain()  # no more minibatches here: serve the others until they have none either
        stats = exchange.stats()
    print(f"rank {rank}: {len(minibatches)} minibatches, {stats['rows_got']:,} rows from others, all right")


if __name__ == "__main__":
    main()
