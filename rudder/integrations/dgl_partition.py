"""DGL's side of partitioning: graphs in, DistDGL partition files out, and their structure as plain arrays."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rudder.errors import ConfigError, FormatError
from rudder.graphs.graph import TEST, TRAIN, VALIDATION, Graph
from rudder.vip.formula import Relation
from rudder.vip.layout import NodeLayout, read_layout
from rudder.vip.shard import PartitionEdges

log = logging.getLogger(__name__)

# Names that DGL's stock training examples read.
MASKS = {TRAIN: "train_mask", VALIDATION: "val_mask", TEST: "test_mask"}


@dataclass(frozen=True)
class Written:
    """Partition files just written: their config, and per partition and node type the typed ids (new
    numbering) of the train nodes that it owns."""

    part_config: Path
    train: Sequence[Mapping[str, NDArray[np.int64]]]


def to_dgl(graph: Graph) -> Any:
    """A DGLGraph with node data "features", "labels" and the masks of MASKS, where the graph has them."""
    dgl, torch = _dgl()
    ends = tuple(torch.from_numpy(ids.astype(np.int64)) for ids in (graph.src, graph.dst))
    made = dgl.graph(ends, num_nodes=graph.num_nodes)
    if graph.feat is not None:
        made.ndata["features"] = torch.from_numpy(np.array(graph.feat, dtype=np.float32))
    if graph.label is not None:
        made.ndata["labels"] = torch.from_numpy(np.array(graph.label, dtype=np.int64))
    if graph.split is not None:
        for value, key in MASKS.items():
            made.ndata[key] = torch.from_numpy(graph.mask(value))
    return made


def is_dgl_graph(graph: object) -> bool:
    """Is it a DGLGraph? Does not import DGL where nobody has."""
    return type(graph).__module__.split(".")[0] == "dgl"


def write_partitions(
    graph: Any,
    name: str,
    out_dir: Path,
    parts: int,
    *,
    method: str,
    seed: int,
    balance_train: bool,
    balance_edges: bool,
) -> Written:
    """Partition a DGLGraph (of any node and edge types) with DGL and write the files that DistDGL loads.

    DGL's own progress lines go to this module's log, at level DEBUG.
    """
    dgl, torch = _dgl()
    dgl.seed(seed)
    torch.manual_seed(seed)
    masks = {
        ntype: graph.nodes[ntype].data["train_mask"]
        for ntype in graph.ntypes
        if "train_mask" in graph.nodes[ntype].data
    }
    balance = None
    if balance_train and masks and method == "metis":
        counts = {ntype: mask.to(torch.int64) for ntype, mask in masks.items()}
        # DGL numbers the classes that it balances: a type whose nodes are all of one kind must be kind 0.
        balance = {ntype: mask * (mask.min() != mask.max()) for ntype, mask in counts.items()}
        if graph.is_homogeneous:
            balance = next(iter(balance.values()))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        node_ids, _ = dgl.distributed.partition_graph(
            graph,
            name,
            parts,
            str(out_dir),
            part_method=method,
            balance_ntypes=balance,
            balance_edges=balance_edges,
            return_mapping=True,
        )
    log.debug("dgl.distributed.partition_graph:\n%s", printed.getvalue())
    if not isinstance(node_ids, Mapping):
        node_ids = {graph.ntypes[0]: node_ids}
    part_config = out_dir / f"{name}.json"
    layout = read_layout(part_config)
    train: list[dict[str, NDArray[np.int64]]] = [{} for _ in range(parts)]
    for ntype, mask in masks.items():
        ids = np.flatnonzero(mask.bool()[node_ids[ntype]].numpy()).astype(np.int64)
        cuts = np.searchsorted(ids, layout.typed_starts(ntype)[1:-1])
        for own, piece in zip(train, np.split(ids, cuts)):
            own[ntype] = piece
    return Written(part_config, train)


def read_train_nodes(part_config: str | Path, part: int, layout: NodeLayout) -> dict[str, NDArray[np.int64]]:
    """Typed ids of the train nodes that a partition owns, per node type that has a mask, from its files."""
    dgl, _ = _dgl()
    data = dgl.distributed.load_partition_feats(str(part_config), part, load_edges=False)[0]
    mask = MASKS[TRAIN]
    return {
        ntype: np.flatnonzero(data[f"{ntype}/{mask}"].bool().numpy()) + layout.typed_starts(ntype)[part]
        for ntype in layout.ntypes
        if f"{ntype}/{mask}" in data
    }


def read_partition_edges(part_config: str | Path, part: int, layout: NodeLayout) -> PartitionEdges:
    """The in-edges of a partition's own nodes, from its files."""
    dgl, _ = _dgl()
    local = dgl.distributed.load_partition(str(part_config), part, load_feats=False)
    return partition_edges(local[0], part, layout, [":".join(etype) for etype in local[6]])


def partition_edges(local: Any, part: int, layout: NodeLayout, etypes: Sequence[str]) -> PartitionEdges:
    """The in-edges of a partition's own nodes, from the DGLGraph that DistDGL holds for it.

    local: homogeneous, own and halo nodes, with the fields that DistDGL reserves. A partition holds *all*
    in-edges of its own nodes; edges that end in halo nodes belong to the neighbours and are left out.
    etypes: canonical edge types ("source:type:destination") in the order of their numbers.
    """
    dgl, _ = _dgl()
    starts = layout.part_starts
    first, num_own = int(starts[part]), int(starts[part + 1] - starts[part])
    whole_ids = local.ndata[dgl.NID].numpy()
    own = np.flatnonzero(local.ndata["inner_node"].numpy() == 1)
    own = own[np.argsort(whole_ids[own], kind="stable")]
    if not np.array_equal(whole_ids[own], np.arange(first, first + num_own)):
        raise FormatError(
            f"partition {part}: its own nodes are not those of the node map ({num_own} from {first})"
        )
    indptr, indices, edge_ids = (array.numpy() for array in local.adj_tensors("csc"))
    if np.array_equal(own, np.arange(num_own)):
        indptr = indptr[: num_own + 1].astype(np.int64)
        edges: Any = slice(0, int(indptr[-1]))
    else:
        degree = indptr[own + 1] - indptr[own]
        begin = indptr[own]
        indptr = np.concatenate([[0], np.cumsum(degree)]).astype(np.int64)
        edges = np.repeat(begin - indptr[:-1], degree) + np.arange(indptr[-1])
    sources = indices[edges]

    # Number the own nodes first, then the halo nodes that are drawn from, by ascending whole-graph id.
    drawn = np.zeros(len(whole_ids), dtype=bool)
    drawn[sources] = True
    drawn[own] = False
    halo_nodes = np.flatnonzero(drawn)
    halo_nodes = halo_nodes[np.argsort(whole_ids[halo_nodes], kind="stable")]
    number = np.full(len(whole_ids), -1, dtype=np.int32 if len(whole_ids) < 2**31 else np.int64)
    number[own] = np.arange(num_own)
    number[halo_nodes] = num_own + np.arange(len(halo_nodes))
    sources = number[sources]
    halo = whole_ids[halo_nodes].astype(np.int64)

    if len(etypes) == 1:
        return PartitionEdges(part, starts, halo, [Relation(indptr, sources, etypes[0])])
    kind = local.edata[dgl.ETYPE].numpy()[edge_ids[edges]]
    row = np.repeat(np.arange(num_own), np.diff(indptr))
    relations = []
    for t, etype in enumerate(etypes):
        of_kind = kind == t
        degree = np.bincount(row[of_kind], minlength=num_own)
        relations.append(Relation(np.concatenate([[0], np.cumsum(degree)]), sources[of_kind], etype))
    return PartitionEdges(part, starts, halo, relations)


def _dgl() -> tuple[Any, Any]:
    try:
        import dgl
        import dgl.distributed
        import torch
    except ImportError as error:
        raise ConfigError(f"partitioning needs DGL: pip install 'rudder-gnn[dgl]' ({error})") from error
    return dgl, torch
