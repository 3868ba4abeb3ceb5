"""DistDGL's KVStore without a graph: real servers and a real client, with the tables of the benchmark.

What pulls rows here is what pulls them in a training job: KVClient.pull, answered by a DGL server process.
`python -m rudder.integrations.dgl_kvstore` is such a server.

Each size of row is a node type of its own. Partition 0 is the client's own host, which DGL wants a server
on; it has one row of each type, which nobody asks for.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rudder.source import Bytes, Ids


@dataclass(frozen=True)
class Layout:
    """Tables of the benchmark: rows that each host but the first has, by size of row."""

    hosts: int
    rows: dict[int, int]

    def of(self, host: int, row_bytes: int) -> int:
        """Rows of a host's table."""
        return self.rows[row_bytes] if host else 1

    def first_id(self, host: int, row_bytes: int) -> int:
        """What DGL calls row 0 of a host's table; the others follow."""
        return 1 + (host - 1) * self.rows[row_bytes] if host else 0

    def book(self, host: int) -> Any:
        """DGL's partition book, as host ``host`` has it."""
        from dgl.distributed.graph_partition_book import RangePartitionBook

        nodes: dict[str, list[list[int]]] = {_type(row_bytes): [] for row_bytes in self.rows}
        end = 0
        for each in range(self.hosts):
            for row_bytes in self.rows:
                begin, end = end, end + self.of(each, row_bytes)
                nodes[_type(row_bytes)].append([begin, end])
        numbers = {name: number for number, name in enumerate(nodes)}
        first = next(iter(nodes))
        edge = (first, "none", first)  # DGL wants an edge type
        arrays = {name: np.array(ranges) for name, ranges in nodes.items()}
        return RangePartitionBook(host, self.hosts, arrays, {edge: arrays[first]}, numbers, {edge: 0})


class KvClient:
    """This process as the only client of DGL's servers. REQUIRES: RUDDER_JOB and RUDDER_HOST are set."""

    def __init__(self, hosts: Sequence[tuple[str, int]], layout: Layout) -> None:
        """``hosts``: address and port of every server, this host's first. Takes seconds: DGL waits."""
        os.environ.update(DGL_DIST_MODE="distributed", DGL_ROLE="client", DGL_NUM_SERVER="1")
        import dgl
        from dgl.distributed.kvstore import get_kvstore

        self._layout = layout
        with tempfile.TemporaryDirectory(prefix="rudder-bench-") as folder:
            dgl.distributed.initialize(_write_addresses(folder, hosts))
        self._store = get_kvstore()
        self._store.map_shared_data(layout.book(0))

    def pull(self, row_bytes: int, ids: Ids) -> Bytes:
        """Rows by DGL's ids, uint8 [n, row_bytes]."""
        import torch

        pulled: Bytes = self._store.pull(name=_key(row_bytes), id_tensor=torch.from_numpy(ids)).numpy()
        return pulled


def _type(row_bytes: int) -> str:
    return f"rows{row_bytes}"


def _key(row_bytes: int) -> str:
    return f"node~{_type(row_bytes)}~bench"


def _write_addresses(folder: str, hosts: Sequence[tuple[str, int]]) -> str:
    path = os.path.join(folder, "ip_config.txt")
    with open(path, "w", encoding="ascii") as file:
        file.writelines(f"{host} {port}\n" for host, port in hosts)
    return path


def _serve(server: int, hosts: Sequence[tuple[str, int]], rows: dict[str, int], seed: int) -> None:
    """Be the server of a host until killed. ``rows``: Layout.rows, as JSON has it."""
    os.environ.update(DGL_DIST_MODE="distributed", DGL_ROLE="server")
    import torch
    from dgl.distributed import rpc
    from dgl.distributed.graph_partition_book import NodePartitionPolicy
    from dgl.distributed.kvstore import KVServer
    from dgl.distributed.rpc_server import start_server
    from dgl.distributed.server_state import ServerState

    from rudder.bench.rows import fill

    layout = Layout(len(hosts), {int(row_bytes): count for row_bytes, count in rows.items()})
    with tempfile.TemporaryDirectory(prefix="rudder-bench-") as folder:
        path = _write_addresses(folder, hosts)
        rpc.reset()
        store = KVServer(server, path, 1, 1)
        book = layout.book(server)
        for row_bytes in layout.rows:
            policy = NodePartitionPolicy(book, _type(row_bytes))
            store.add_part_policy(policy)
            made = fill(np.empty((layout.of(server, row_bytes), row_bytes), np.uint8), seed, server)
            store.init_data(_key(row_bytes), policy.policy_str, torch.from_numpy(made))
            del made
        start_server(server, path, 1, 1, ServerState(store, None, None, None))


def main() -> None:
    """Entry point of a server: the arguments of `_serve` as JSON on the first line of stdin."""
    from rudder.launch.child import die_with_parent

    die_with_parent(int(os.environ.pop("RUDDER_PARENT")))
    import rudder  # noqa: F401  (lets DGL run, and knows which host this is)

    spec = json.loads(sys.stdin.readline())
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    _serve(spec["server"], [(host, port) for host, port in spec["hosts"]], spec["rows"], spec["seed"])


if __name__ == "__main__":
    main()
