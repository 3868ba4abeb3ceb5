"""What is behind a DistTensor: its partitions, the shard on this machine, and the stock pull."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from dgl.distributed import DistTensor
from dgl.distributed.kvstore import default_pull_handler
from numpy.typing import NDArray

from rudder.agent.job import JobFacts
from rudder.errors import ConfigError
from rudder.source import Bytes, FeatureSource, Ids, PriorBuilder

if TYPE_CHECKING:
    from rudder._core import Transport


class DistTensorSource(FeatureSource):
    """The rows of one DistTensor, which lie with DistDGL's servers."""

    def __init__(
        self,
        g: Any,
        tensor: DistTensor,
        *,
        part_config: str | os.PathLike[str] | None = None,
        transport: str | None = None,
    ) -> None:
        """``g``: the DistGraph. ``part_config``: its partition file, where the stored prior lies beside.

        ``transport`` as in `rudder.attach`. Raises ConfigError for tensors that cannot be prefetched.
        """
        from rudder.integrations.dgl_routes import parse_ladder

        self._ladder = parse_ladder(transport)
        self._g, self._tensor = g, tensor
        self._store, self._key = tensor.kvstore, tensor.kvstore_key
        self._refuse_handlers()
        policy = tensor.part_policy
        self.is_node, self.type_name = bool(policy.is_node), policy.type_name
        self.name = _readable(tensor, g)
        self.row_shape = tuple(int(size) for size in tensor.shape[1:])
        self.dtype = tensor.dtype
        self.row_bytes = torch.empty((), dtype=tensor.dtype).element_size() * int(np.prod(self.row_shape))
        if self.row_bytes == 0:
            raise ConfigError(f"{self.name}: its rows are empty, of shape {self.row_shape}")
        self.part_starts = part_starts(policy)
        self.places = server_places(self._store)
        self.local_part = int(policy.part_id)
        self.local_rows = self._shard()
        self.halo_ids = self._find_halo()
        # Edge types have no halo worth the name (a partition holds the in-edges of its own nodes), and
        # neither has a trainer without a local graph: there, as many rows as a partition has on average.
        average = int(self.part_starts[-1]) // (len(self.part_starts) - 1)
        self.halo_rows = average if self.halo_ids is None else len(self.halo_ids())
        part_config = part_config or os.environ.get("DGL_CONF_PATH")
        self.priors = self._find_priors(part_config)
        self.job = self._find_facts(part_config)

    def pull(self, ids: Ids) -> Bytes:
        """The stock pull: over DGL's RPC, serialized with every other DGL call of this process."""
        rows = self._store.pull(name=self._key, id_tensor=torch.from_numpy(np.ascontiguousarray(ids)))
        return as_bytes(rows)

    def routes(self, table: int) -> Sequence[Sequence[Transport]]:
        """Shared memory for peers on this machine, feature servers or DistDGL's KVStore for others."""
        from rudder.integrations.dgl_routes import choose

        return choose(self, table, self._key, self._ladder)

    def refresh_vip(self, train_nids: Any, fanouts: Sequence[Any], batch_size: int) -> None:
        """Compute the VIP prior for new settings. Collective over all trainers. Raises ConfigError."""
        from rudder.integrations.dgl_vip import refresh

        if not self.is_node:
            raise ConfigError(f"{self.name} holds edge features; VIP is defined for nodes")
        worth = refresh(self._g, train_nids, fanouts, batch_size)[self.type_name]
        self.priors = {**self.priors, "vip": _answering(worth)}

    def _refuse_handlers(self) -> None:
        handlers = getattr(self._store, "_pull_handlers", {})
        if handlers.get(self._key, default_pull_handler) is not default_pull_handler:
            raise ConfigError(
                f"{self._key} has a pull handler of its own (register_pull_handler): its rows are computed, "
                "not stored, so they cannot be prefetched"
            )

    def _shard(self) -> Bytes | None:
        """The local partition's rows, as DGL maps them from its server, without a copy."""
        rows = int(self.part_starts[self.local_part + 1] - self.part_starts[self.local_part])
        shard = self._store.data_store.get(self._key)
        if rows == 0 or shard is None:
            return None
        if len(shard) != rows:
            raise ConfigError(
                f"{self.name}: the local shard has {len(shard)} rows, its partition book says {rows}"
            )
        return as_bytes(shard)

    def _find_halo(self) -> Callable[[], Ids] | None:
        """Nodes of this type that this partition's graph has and others own."""
        graph = self._g.local_partition
        if not self.is_node or graph is None:
            return None

        def halo() -> Ids:
            ids = graph.ndata["_ID"][graph.ndata["inner_node"] == 0]
            book = self._g.get_partition_book()
            types, typed = book.map_to_per_ntype(ids)
            found: Ids = typed[types == book.ntypes.index(self.type_name)].numpy()
            return found

        return halo

    def _find_priors(self, part_config: str | os.PathLike[str] | None) -> dict[str, PriorBuilder]:
        if not self.is_node or len(self.part_starts) == 2:
            return {}
        found: dict[str, PriorBuilder] = {}
        if self._g.local_partition is not None:
            found["degree"] = self._degree
        if part_config is not None and Path(part_config).exists():
            from rudder.partition import load_prior

            worth = load_prior(Path(part_config), self.local_part, self.type_name)
            if worth is not None:
                found["vip"] = _answering(worth)
        return found

    def _find_facts(self, part_config: str | os.PathLike[str] | None) -> JobFacts:
        trainers = torch.distributed.get_world_size() if torch.distributed.is_initialized() else None
        facts = JobFacts(trainers=trainers, nodes=int(self._g.num_nodes()), edges=int(self._g.num_edges()))
        if "vip" not in self.priors or part_config is None:
            return facts
        from rudder.partition import read_prior_info

        info = read_prior_info(Path(part_config), self.local_part)
        return replace(facts, batch_size=info.batch_size, fanouts=tuple(info.fanouts))

    def _degree(self) -> NDArray[np.float32]:
        from rudder.integrations.dgl_vip import local_degree_prior

        return local_degree_prior(self._g)[self.type_name]


def _answering(worth: NDArray[np.float32]) -> Callable[[], NDArray[np.float32]]:
    return lambda: worth


def part_starts(policy: Any) -> Ids:
    """int64 [P+1]: the ranges of typed ids that the partitions own."""
    book = policy.partition_book
    # DGL has no public way to its ranges short of spelling out every id.
    last = book._typed_max_node_ids if policy.is_node else book._typed_max_edge_ids
    return np.concatenate(([0], np.asarray(last[policy.type_name], dtype=np.int64)))


def server_places(client: Any) -> list[str]:
    """By partition, host:port of the main server that a KVClient asks; none in DGL's standalone mode."""
    # DGL has no public way to it; "server id: machine, address, port, servers on the machine".
    book = getattr(client, "_server_namebook", None)
    if not book:
        return []
    return [f"{book[server][1]}:{book[server][2]}" for server in range(0, len(book), book[0][3])]


def as_bytes(tensor: torch.Tensor) -> Bytes:
    """A tensor's rows as uint8 [n, row_bytes], without a copy where it is contiguous."""
    if len(tensor) == 0:
        return np.empty((0, 0), dtype=np.uint8)
    rows: NDArray[np.uint8] = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
    return rows.reshape(len(tensor), -1)


def find_tensor(g: Any, which: str | DistTensor, ntype: str | None, etype: Any | None) -> DistTensor:
    """The DistTensor of that name on ``g``. Raises ConfigError where there is none, or several."""
    if isinstance(which, DistTensor):
        return which
    if ntype is not None and etype is not None:
        raise ConfigError("give ntype or etype, not both")
    if ntype is not None:
        if ntype not in g.ntypes:
            raise ConfigError(f"there is no node type {ntype!r}; there are {', '.join(g.ntypes)}")
        places = {f"nodes of type {ntype}": g.nodes[ntype].data}
    elif etype is not None:
        known = etype in g.canonical_etypes or g.etypes.count(etype) == 1
        if not known:
            raise ConfigError(f"edge type {etype!r} is unknown or ambiguous; there are {g.canonical_etypes}")
        places = {f"edges of type {etype}": g.edges[etype].data}
    else:
        places = {f"nodes of type {each}": g.nodes[each].data for each in g.ntypes}
        if not any(which in data for data in places.values()):
            places.update({f"edges of type {each}": g.edges[each].data for each in g.canonical_etypes})
    found = {place: data[which] for place, data in places.items() if which in data}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise ConfigError(f"{which!r} is on {' and on '.join(found)}: say which, with ntype= or etype=")
    have = sorted({name for data in places.values() for name in data})
    raise ConfigError(f"there is no {which!r}; there are {', '.join(have) or 'no tensors at all'}")


def _readable(tensor: DistTensor, g: Any) -> str:
    """Name in files and messages: with its type where the graph has several."""
    policy = tensor.part_policy
    name = str(tensor.tensor_name)
    if policy.is_node:
        return name if len(g.ntypes) == 1 else f"{policy.type_name}.{name}"
    types = "-".join(policy.type_name)
    return f"edge.{name}" if len(g.canonical_etypes) == 1 else f"{types}.{name}"
