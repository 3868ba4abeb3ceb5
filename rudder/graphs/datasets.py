"""Graphs by name: OGB's node-property data sets and DGL's own. Both need their package and the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rudder.errors import ConfigError
from rudder.graphs.generate import generate
from rudder.graphs.graph import TEST, TRAIN, UNSPLIT, VALIDATION, Graph
from rudder.graphs.npz import load_npz
from rudder.graphs.plain import is_symmetric, single_label
from rudder.integrations.dgl_datasets import DGL_DATASETS, load_dgl_dataset


def load_graph(spec: str, *, root: str | Path = "dataset", seed: int = 0) -> Graph:
    """A graph from what a user typed: a path to an ``.npz``, ``generated``, or a data set's name."""
    if spec == "generated":
        return generate(seed=seed)
    if spec.endswith(".npz") or Path(spec).is_file():
        if not Path(spec).is_file():
            raise ConfigError(f"{spec}: no such file")
        return load_npz(spec)
    return load_dataset(spec, root=root)


def load_dataset(name: str, *, root: str | Path = "dataset") -> Graph:
    """An OGB (``ogbn-...``) or DGL data set, downloaded to `root` where it is not there yet.

    Raises ConfigError for an unknown name, a package that is missing, or a download that fails.
    """
    if name.startswith("ogbn-"):
        return _load_ogb(name, root)
    if name in DGL_DATASETS:
        return load_dgl_dataset(name, root)
    known = ", ".join(["generated", "an .npz file", "ogbn-*", *DGL_DATASETS])
    raise ConfigError(f"'{name}' names no graph; known are {known}")


def _load_ogb(name: str, root: str | Path) -> Graph:
    try:
        from ogb.nodeproppred import NodePropPredDataset
    except ImportError as error:
        raise ConfigError(f"'{name}' needs the ogb package: pip install ogb ({error})") from error
    try:
        data: Any = NodePropPredDataset(name=name, root=str(root))
    except Exception as error:  # ogb raises whatever its HTTP client does
        raise ConfigError(f"'{name}' could not be loaded or downloaded: {error}") from error
    graph, label = data[0]
    if "edge_index" not in graph:
        raise ConfigError(
            f"'{name}' is heterogeneous; convert it to a DGL graph and call rudder.partition.partition_graph"
        )
    split = np.full(graph["num_nodes"], UNSPLIT, dtype=np.int8)
    for key, value in (("train", TRAIN), ("valid", VALIDATION), ("test", TEST)):
        split[data.get_idx_split()[key]] = value
    src, dst = graph["edge_index"]
    return Graph(
        name=name,
        src=src,
        dst=dst,
        num_nodes=int(graph["num_nodes"]),
        directed=not is_symmetric(src, dst, int(graph["num_nodes"])),
        feat=graph["node_feat"],
        label=single_label(name, label),
        split=split,
    )
