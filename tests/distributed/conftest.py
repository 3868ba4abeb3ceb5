"""Graphs that real DistDGL processes load, made once per test session."""

from __future__ import annotations

from pathlib import Path

import pytest

RING_NODES = 600


@pytest.fixture(scope="session")
def ring_parts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Partition file of a ring in two random parts: node i gets edges from i+1 .. i+5; `feats[i, c]` = 3 i
    + c, `orig[i]` = i.

    Every query says from a node's number alone whether an answer is right; random parts make 5 of 10 edges
    remote.
    """
    pytest.importorskip("torch")
    import rudder  # noqa: F401  (lets DGL import)

    dgl = pytest.importorskip("dgl")
    import torch

    folder = tmp_path_factory.mktemp("ring")
    nodes = torch.arange(RING_NODES)
    src = torch.cat([(nodes + step) % RING_NODES for step in range(1, 6)])
    graph = dgl.graph((src, nodes.repeat(5)), num_nodes=RING_NODES)
    graph.ndata["orig"] = nodes
    graph.ndata["feats"] = torch.stack([nodes * 3 + column for column in range(8)], 1)
    dgl.distributed.partition_graph(graph, "ring", 2, str(folder), part_method="random")
    return str(folder / "ring.json")


@pytest.fixture
def workers() -> Path:
    """Folder of the scripts that tests launch."""
    return Path(__file__).parent / "workers"
