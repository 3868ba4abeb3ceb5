from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rudder.errors import FormatError
from rudder.graphs import Graph, complete, load_npz, save_npz


def small() -> Graph:
    return Graph(
        name="small",
        src=np.array([0, 1, 2, 3], dtype=np.int32),
        dst=np.array([1, 2, 0, 3], dtype=np.int32),
        num_nodes=5,
        directed=True,
        feat=np.arange(10, dtype=np.float16).reshape(5, 2),
        label=np.array([0, 1, 2, 0, 1], dtype=np.int16),
        split=np.array([0, 0, 1, 2, 2], dtype=np.int8),
    )


def test_reads_back_what_was_saved(tmp_path: Path) -> None:
    graph = small()
    save_npz(tmp_path / "small.npz", graph)
    back = load_npz(tmp_path / "small.npz")
    assert (back.name, back.num_nodes, back.directed) == ("small", 5, True)
    for key in ("src", "dst", "feat", "label", "split"):
        assert np.array_equal(getattr(back, key), getattr(graph, key))
        assert getattr(back, key).dtype == getattr(graph, key).dtype


@pytest.mark.parametrize("missing", ["src", "dst", "num_nodes"])
def test_names_the_array_that_is_missing(tmp_path: Path, missing: str) -> None:
    arrays = {"src": np.array([0]), "dst": np.array([1]), "num_nodes": np.int64(2)}
    del arrays[missing]
    np.savez(tmp_path / "g.npz", **arrays)
    with pytest.raises(FormatError, match=f"lacks {missing}"):
        load_npz(tmp_path / "g.npz")


@pytest.mark.parametrize("bad", [-1, 5, 2**31 - 1])
def test_refuses_ids_out_of_range(tmp_path: Path, bad: int) -> None:
    np.savez(tmp_path / "g.npz", src=np.array([0, bad]), dst=np.array([1, 1]), num_nodes=np.int64(5))
    with pytest.raises(FormatError, match=r"outside \[0, 5\)"):
        load_npz(tmp_path / "g.npz")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"dst": np.array([1])}, "equally long"),
        ({"src": np.array([0.0, 1.0])}, "dtype float64"),
        ({"num_nodes": np.array([1, 2])}, "one integer"),
        ({"num_nodes": np.int64(0)}, "at least one node"),
        ({"label": np.array([1, 2])}, "label has shape"),
        ({"feat": np.zeros(5)}, "feat has shape"),
    ],
)
def test_refuses_what_does_not_fit_together(tmp_path: Path, changed: dict, words: str) -> None:
    arrays = {"src": np.array([0, 1]), "dst": np.array([1, 2]), "num_nodes": np.int64(5), **changed}
    np.savez(tmp_path / "g.npz", **arrays)
    with pytest.raises(FormatError, match=words):
        load_npz(tmp_path / "g.npz")


def test_refuses_pickles_and_single_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", src=np.array([object()]), dst=np.array([0]), num_nodes=np.int64(1))
    np.save(tmp_path / "a.npy", np.arange(3))
    for name in ("p.npz", "a.npy"):
        with pytest.raises(FormatError):
            load_npz(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load_npz(tmp_path / "absent.npz")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_truncated_file_is_a_format_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    save_npz(folder / "g.npz", small())
    whole = (folder / "g.npz").read_bytes()
    cut = data.draw(st.integers(0, len(whole) - 1))
    (folder / "g.npz").write_bytes(whole[:cut])
    with pytest.raises(FormatError):
        load_npz(folder / "g.npz")


def test_arrays_are_read_only_and_the_callers_stay_writable() -> None:
    src = np.array([0, 1])
    graph = Graph(name="g", src=src, dst=np.array([1, 0]), num_nodes=2)
    with pytest.raises(ValueError, match="read-only"):
        graph.src[0] = 1
    src[0] = 0


def test_bidirected_has_every_arc_both_ways_once() -> None:
    graph = Graph(
        name="g", src=np.array([0, 1, 0, 2]), dst=np.array([1, 0, 2, 2]), num_nodes=3, directed=True
    )
    both = graph.bidirected()
    assert sorted(zip(both.src.tolist(), both.dst.tolist())) == [(0, 1), (0, 2), (1, 0), (2, 0), (2, 2)]
    assert not both.directed
    assert both.bidirected() is both


@pytest.mark.parametrize(("mode", "loops"), [("keep", [2]), ("drop", []), ("add", [0, 1, 2])])
def test_self_loops(mode: str, loops: list[int]) -> None:
    graph = Graph(name="g", src=np.array([0, 2]), dst=np.array([1, 2]), num_nodes=3).with_self_loops(mode)
    assert graph.src[graph.src == graph.dst].tolist() == loops
    assert (graph.src != graph.dst).sum() == 1


@pytest.mark.parametrize(
    ("name", "nodes", "arcs", "directed"),
    [("ogbn_arxiv", 169_343, 1_166_243, True), ("mesh_wave", 156_317, 2_118_662, False)],
)
def test_real_graphs(shared: Callable[[str], Path], name: str, nodes: int, arcs: int, directed: bool) -> None:
    graph = load_npz(shared(f"data/{name}.npz"))
    assert (graph.num_nodes, graph.num_arcs, graph.directed) == (nodes, arcs, directed)


def test_what_a_real_file_has_is_kept_and_the_rest_made(shared: Callable[[str], Path]) -> None:
    graph = load_npz(shared("data/ogbn_arxiv.npz"))
    full = complete(graph, feature_dim=16)
    assert np.array_equal(full.label, graph.label)
    assert np.array_equal(full.split, graph.split)
    assert full.feat is not None
    assert (full.feat.shape, full.feat.dtype) == ((169_343, 16), np.float32)
    assert full.train_mask.sum() == 90_941
