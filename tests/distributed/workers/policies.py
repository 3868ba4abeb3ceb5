"""A trainer that reads one DistTensor through every policy at once, each with a record of its own.

Arguments: a folder, which gets a folder of records for each variant, and a JSON object of variants: options
of `attach` by name.
"""

import json
import sys
from pathlib import Path
from typing import Any

import rudder  # isort: split

import dgl
import torch

EPOCHS, LEFT_IN, LEFT_AFTER, REPLANNED_AFTER = 4, 2, 3, 5

folder, variants = Path(sys.argv[1]), json.loads(sys.argv[2])
dgl.distributed.initialize("the launcher knows better")
torch.distributed.init_process_group("gloo")
g = dgl.distributed.DistGraph("g")


def attach(name: str) -> Any:
    options: dict[str, Any] = dict(variants[name])
    settings = rudder.PolicySettings(**options.pop("policy_settings", {}))
    return rudder.attach(
        g,
        "features",
        capacity=0.2,
        plan=rudder.Plan(interval=4, window=2),
        policy_settings=settings,
        record=folder / name,
        **options,
    )


feats = {name: attach(name) for name in variants}
book = g.get_partition_book()
mine = book.partid2nids(book.partid)
drawn_from = torch.unique(dgl.distributed.sample_neighbors(g, mine, -1).edges()[0])
halo = drawn_from[book.nid2partid(drawn_from) != book.partid]
find_halo = next(iter(feats.values())).prefetcher.source.halo_ids
assert find_halo is not None
assert sorted(find_halo().tolist()) == halo.tolist()
torch.distributed.barrier()
nodes = dgl.distributed.node_split(g.ndata["train_mask"], book)
sampler = dgl.dataloading.NeighborSampler([4, 4])
loader = rudder.prefetch(
    dgl.dataloading.DistNodeDataLoader(g, nodes, sampler, batch_size=24, shuffle=True), *feats.values()
)
steps = 0
for epoch in range(EPOCHS):
    for step, (inputs, _, _) in enumerate(loader):
        stock = g.ndata["features"][inputs]
        for name, feat in feats.items():
            assert torch.equal(feat[inputs], stock), name
            if epoch == 1 and step == REPLANNED_AFTER:
                feat.replan(depth=4, buffer_share=60)
        steps += 1
        if epoch == LEFT_IN and step == LEFT_AFTER:
            break  # what was sampled and fetched ahead is dropped
    torch.distributed.barrier()
loader.close()
found = {}
for name, feat in feats.items():
    feat.close()
    total = feat.metrics()
    found[name] = {
        "rows_moved": total.rows_moved,
        "rows_requested": total.rows_requested,
        "replacement_rows": total.rows_replaced,
    }
assert steps > (EPOCHS - 1) * REPLANNED_AFTER
print("REPORT " + json.dumps({"rank": g.rank(), "found": found}), flush=True)
