"""DGL's own data sets by name, as plain graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rudder.errors import ConfigError
from rudder.graphs.graph import TEST, TRAIN, UNSPLIT, VALIDATION, Graph
from rudder.graphs.plain import is_symmetric, single_label

# Name on the command line -> class in dgl.data. Each holds one homogeneous graph with one label per node.
DGL_DATASETS = {
    "cora": "CoraGraphDataset",
    "citeseer": "CiteseerGraphDataset",
    "pubmed": "PubmedGraphDataset",
    "reddit": "RedditDataset",
    "flickr": "FlickrDataset",
    "coauthor-cs": "CoauthorCSDataset",
    "amazon-co-buy-computer": "AmazonCoBuyComputerDataset",
}


def load_dgl_dataset(name: str, root: str | Path) -> Graph:
    """Load one of DGL_DATASETS, downloaded to `root` if need be. Raises ConfigError where that fails."""
    try:
        import dgl.data
    except ImportError as error:
        raise ConfigError(f"'{name}' needs DGL: pip install 'rudder-gnn[dgl]' ({error})") from error
    try:
        graph = getattr(dgl.data, DGL_DATASETS[name])(raw_dir=str(root))[0]
    except Exception as error:  # DGL raises whatever its HTTP client does
        raise ConfigError(f"'{name}' could not be loaded or downloaded: {error}") from error
    src, dst = (ends.numpy() for ends in graph.edges())
    split = None
    if "train_mask" in graph.ndata:
        split = np.full(graph.num_nodes(), UNSPLIT, dtype=np.int8)
        for key, value in (("train_mask", TRAIN), ("val_mask", VALIDATION), ("test_mask", TEST)):
            split[graph.ndata[key].numpy().astype(bool)] = value
    return Graph(
        name=name,
        src=src,
        dst=dst,
        num_nodes=graph.num_nodes(),
        directed=not is_symmetric(src, dst, graph.num_nodes()),
        feat=graph.ndata["feat"].numpy(),
        label=single_label(name, graph.ndata["label"].numpy()),
        split=split,
    )
