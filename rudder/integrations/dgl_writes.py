"""Read your own writes: DGL's push returns before the servers have stored the rows.

With the stock pull a later read of the same process goes to the same queue as the write (if the machine has
one server). Rows read from shared memory, or through another server of the machine, could overtake it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from dgl.distributed import rpc
from dgl.distributed.dist_tensor import DistTensor
from dgl.distributed.kvstore import GetPartShapeRequest, KVClient

from rudder.integrations import dgl_rpc
from rudder.source import Ids


def wait_for_writes(tensor: DistTensor, ids: Ids) -> None:
    """Return once every server that may have got a part of the write has answered a later request."""
    store: Any = tensor.kvstore
    if not isinstance(store, KVClient) or len(ids) == 0:
        return
    last = tensor.part_policy.partition_book
    bounds = last._typed_max_node_ids if tensor.part_policy.is_node else last._typed_max_edge_ids
    machines = np.unique(np.searchsorted(bounds[tensor.part_policy.type_name], ids, side="right"))
    per_machine = store._group_count
    servers = [
        int(machine) * per_machine + server
        for machine in machines
        if machine != store.machine_id
        for server in range(per_machine)
    ]
    # A server answers the requests of one client in the order in which they came.
    with dgl_rpc.lock:
        for server in servers:
            rpc.send_request(server, GetPartShapeRequest(tensor.kvstore_key))
        for _ in servers:
            rpc.recv_response()
