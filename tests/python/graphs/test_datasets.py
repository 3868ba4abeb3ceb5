"""Graphs by name, from stand-ins of the packages that download them: nothing here needs the network."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from rudder.errors import ConfigError
from rudder.graphs import Graph, load_graph

FEAT = np.arange(10, dtype=np.float32).reshape(5, 2)
SPLIT = {"train": np.array([0, 3]), "valid": np.array([1]), "test": np.array([4])}


class OgbDataset:
    """As ogb's NodePropPredDataset: labels [n, 1] of floats, a split by node ids."""

    made: tuple[str, str] | None = None
    hetero = False

    def __init__(self, name: str, root: str) -> None:
        if name == "ogbn-unheard-of":
            raise ValueError("Invalid dataset name")
        type(self).made = (name, root)

    def __getitem__(self, number: int) -> tuple[dict[str, Any], np.ndarray]:
        assert number == 0
        label = np.array([[0.0], [1.0], [np.nan], [2.0], [1.0]])
        if self.hetero:
            return {"edge_index_dict": {}, "num_nodes_dict": {}}, label
        arcs = np.array([[0, 1, 2, 3], [1, 2, 3, 4]])
        return {"edge_index": arcs, "num_nodes": 5, "node_feat": FEAT, "edge_feat": None}, label

    def get_idx_split(self) -> dict[str, np.ndarray]:
        return SPLIT


@pytest.fixture
def ogb(monkeypatch: pytest.MonkeyPatch) -> type[OgbDataset]:
    package, module = ModuleType("ogb"), ModuleType("ogb.nodeproppred")

    class Dataset(OgbDataset):
        pass

    module.NodePropPredDataset = Dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ogb", package)
    monkeypatch.setitem(sys.modules, "ogb.nodeproppred", module)
    return Dataset


def check(graph: Graph, name: str) -> None:
    assert (graph.name, graph.num_nodes) == (name, 5)
    np.testing.assert_array_equal(graph.feat, FEAT)
    assert graph.split is not None
    assert graph.split.tolist() == [0, 1, -1, 0, 2]


def test_an_ogb_data_set(ogb: type[OgbDataset], tmp_path: Path) -> None:
    graph = load_graph("ogbn-tiny", root=tmp_path)
    check(graph, "ogbn-tiny")
    assert ogb.made == ("ogbn-tiny", str(tmp_path))
    assert graph.directed
    assert list(zip(graph.src, graph.dst)) == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert graph.label is not None
    assert graph.label.tolist() == [0, 1, -1, 2, 1]


def test_an_ogb_data_set_that_cannot_be_had(ogb: type[OgbDataset], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="could not be loaded or downloaded: Invalid dataset name"):
        load_graph("ogbn-unheard-of", root=tmp_path)


def test_a_heterogeneous_ogb_data_set(ogb: type[OgbDataset], tmp_path: Path) -> None:
    ogb.hetero = True
    with pytest.raises(ConfigError, match="heterogeneous; convert it to a DGL graph"):
        load_graph("ogbn-tiny", root=tmp_path)


class Tensor:
    """What a data set's tensors are asked for."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def numpy(self) -> np.ndarray:
        return self._values


class DglGraph:
    """As a DGLGraph of a data set: masks of bytes where it has a split."""

    def __init__(self, *, split: bool) -> None:
        self.ndata = {"feat": Tensor(FEAT), "label": Tensor(np.array([0, 1, 0, 2, 1]))}
        if split:
            for key, ids in zip(("train_mask", "val_mask", "test_mask"), SPLIT.values()):
                self.ndata[key] = Tensor(np.isin(np.arange(5), ids).astype(np.uint8))

    def num_nodes(self) -> int:
        return 5

    def edges(self) -> tuple[Tensor, Tensor]:
        return Tensor(np.array([0, 1, 2, 3])), Tensor(np.array([1, 0, 3, 2]))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A stand-in for dgl.data; the folders that its data sets were asked to lie in."""
    folders: list[str] = []

    def dataset(*, split: bool) -> Any:
        def make(raw_dir: str) -> list[DglGraph]:
            folders.append(raw_dir)
            return [DglGraph(split=split)]

        return make

    def fails(raw_dir: str) -> list[DglGraph]:
        raise OSError("no route to host")

    package, module = ModuleType("dgl"), ModuleType("dgl.data")
    module.CoraGraphDataset = dataset(split=True)  # type: ignore[attr-defined]
    module.CoauthorCSDataset = dataset(split=False)  # type: ignore[attr-defined]
    module.RedditDataset = fails  # type: ignore[attr-defined]
    package.data = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dgl", package)
    monkeypatch.setitem(sys.modules, "dgl.data", module)
    return folders


def test_a_data_set_of_dgl(asked: list[str], tmp_path: Path) -> None:
    graph = load_graph("cora", root=tmp_path)
    check(graph, "cora")
    assert asked == [str(tmp_path)]
    assert not graph.directed
    assert list(zip(graph.src, graph.dst)) == [(0, 1), (1, 0), (2, 3), (3, 2)]
    assert graph.label is not None
    assert graph.label.tolist() == [0, 1, 0, 2, 1]


def test_a_data_set_of_dgl_without_a_split(asked: list[str], tmp_path: Path) -> None:
    assert load_graph("coauthor-cs", root=tmp_path).split is None


def test_a_data_set_of_dgl_that_cannot_be_had(asked: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'reddit' could not be loaded or downloaded: no route to host"):
        load_graph("reddit", root=tmp_path)


def test_unknown_names_list_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'nowhere' names no graph; known are generated, .*, cora, "):
        load_graph("nowhere", root=tmp_path)
