"""A trainer that makes its prior anew and compares it with the stored one and with one machine's."""

import sys

import rudder  # noqa: F401  (lets DGL import)

import dgl  # isort: skip
import numpy as np
import torch

from rudder.integrations.dgl_vip import initial_prior, refresh
from rudder.vip.exchange import TorchExchange

ip_config, part_config = sys.argv[1:3]
dgl.distributed.initialize(ip_config)
torch.distributed.init_process_group("gloo")
g = dgl.distributed.DistGraph("g", part_config=part_config)
book = g.get_partition_book()
trainers = torch.distributed.get_world_size() // book.num_partitions()
stored, kind = initial_prior(g, part_config)

# The stored prior is the host's: of all its trainers together.
everybody = [None] * torch.distributed.get_world_size()
mine = dgl.distributed.node_split(g.ndata["train_mask"], book)
torch.distributed.all_gather_object(everybody, (book.partid, mine.numpy()))
of_host = np.concatenate([ids for part, ids in everybody if part == book.partid])

exchange = TorchExchange(book.partid, book.num_partitions())
made = refresh(g, of_host, [3, 5], 20, trainers=trainers, exchange=exchange)["_N"]
fewer = refresh(g, mine[:10], [2], 5, exchange=exchange)["_N"]
torch.distributed.barrier()
print(
    f"kind {kind} trainers {trainers} same {bool(np.abs(made - stored).max() <= 1e-6)} "
    f"seeds {bool((fewer[mine[:10].numpy()] >= 0.5).all())} changed {bool(fewer.sum() < made.sum())}"
)
