"""Real partitions by DGL of small graphs, and the priors beside them."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

import numpy as np
import pytest

from rudder.errors import ConfigError
from rudder.graphs import Graph, generate, save_npz
from rudder.partition import TrainedWith, load_prior, make_prior, partition_graph, read_prior, read_prior_info
from rudder.vip import NodeLayout, Relation, read_layout, vip

dgl = pytest.importorskip("dgl", reason="needs the dgl extra")
torch = pytest.importorskip("torch")

FANOUTS, BATCH, PARTS = [3, 5], 50, 3


class Threads:
    """An all-to-all among threads of this process."""

    def __init__(self, parts: int) -> None:
        self._barrier = threading.Barrier(parts)
        self._box: list[list[np.ndarray]] = [[] for _ in range(parts)]

    def of(self, part: int) -> Any:
        def all_to_all(outgoing: list[np.ndarray]) -> list[np.ndarray]:
            self._box[part] = outgoing
            self._barrier.wait(timeout=60)
            incoming = [sent[part] for sent in self._box]
            self._barrier.wait(timeout=60)
            return incoming

        return SimpleNamespace(all_to_all=all_to_all)


def numbered(graph: Graph) -> Graph:
    """The same graph with its original node ids as features, so that the new numbering can be told."""
    ids = np.arange(graph.num_nodes, dtype=np.float32)[:, None]
    return Graph(**{**{k: getattr(graph, k) for k in graph.__dataclass_fields__}, "feat": ids})


@pytest.fixture(scope="module")
def source() -> Graph:
    return numbered(generate(3000, 30_000, feature_dim=2, num_classes=4, train_fraction=0.3, seed=1))


@pytest.fixture(scope="module")
def made(source: Graph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("parts") / "out"
    report = partition_graph(source, out, parts=PARTS, fanouts=FANOUTS, batch_size=BATCH, name="g")
    assert sum(part.nodes for part in report.parts) == 3000
    assert sum(part.in_edges for part in report.parts) == report.num_edges == source.num_arcs
    assert sum(part.train_nodes for part in report.parts) == 900
    return out / "g.json"


def node_data(part_config: Path, key: str) -> np.ndarray:
    """A node tensor of the whole graph, by new id."""
    pieces = [dgl.distributed.load_partition(str(part_config), p)[1][key] for p in range(PARTS)]
    return torch.cat(pieces).numpy()


def split_evenly(train: dict[str, np.ndarray], layout: NodeLayout) -> list[np.ndarray]:
    """Whole-graph ids of the train nodes of each partition's trainers."""
    by_type = [np.array_split(layout.whole_ids(ids, ntype), PARTS) for ntype, ids in train.items()]
    return [np.concatenate(shares) for shares in zip(*by_type)]


def in_edges(src: np.ndarray, dst: np.ndarray, num_nodes: int, name: str = "_N:_E:_N") -> Relation:
    indptr = np.concatenate([[0], np.cumsum(np.bincount(dst, minlength=num_nodes))])
    return Relation(indptr, src[np.argsort(dst, kind="stable")], name)


def test_node_data_has_the_names_that_dgls_examples_read(made: Path, source: Graph) -> None:
    original = node_data(made, "_N/features")[:, 0].astype(int)
    assert sorted(original) == list(range(3000))
    assert np.array_equal(node_data(made, "_N/labels"), source.label[original])
    for value, key in enumerate(("train_mask", "val_mask", "test_mask")):
        assert np.array_equal(node_data(made, f"_N/{key}").astype(bool), source.mask(value)[original])


def test_the_prior_is_the_vip_of_the_whole_graph_in_new_ids(made: Path, source: Graph) -> None:
    original = node_data(made, "_N/features")[:, 0].astype(int)
    relation = in_edges(source.src, source.dst, 3000)
    layout = read_layout(made)
    train = {"_N": np.flatnonzero(node_data(made, "_N/train_mask"))}
    for part, seeds in enumerate(split_evenly(train, layout)):
        prior = load_prior(made, part)
        assert prior is not None
        assert prior.dtype == np.float32
        expected = vip(relation, 3000, original[seeds], FANOUTS, BATCH)
        assert np.abs(prior - expected[original]).max() <= 1e-6
        _, info = read_prior(made.parent / f"part{part}" / "rudder_prior.npz")
        assert read_prior_info(made, part) == info
        assert (info.fanouts, info.batch_size, info.trainers) == (FANOUTS, BATCH, 1)


def test_seeds_are_those_of_dgls_node_split(made: Path) -> None:
    from dgl.distributed.dist_graph import _split_even_to_part

    mask = torch.from_numpy(node_data(made, "_N/train_mask"))
    shares = split_evenly({"_N": np.flatnonzero(mask.numpy())}, read_layout(made))
    for part, share in enumerate(shares):
        book = dgl.distributed.load_partition(str(made), part)[3]
        assert np.array_equal(np.sort(_split_even_to_part(book, mask).numpy()), np.sort(share))


def running(part_config: Path, part: int) -> Any:
    """What a trainer's DistGraph shows of its partition."""
    local, _, _, book = dgl.distributed.load_partition(str(part_config), part)[:4]
    return SimpleNamespace(local_partition=local, get_partition_book=lambda: book)


def on_every_part(act: Callable[[int, Any], Any]) -> list[Any]:
    """What `act` of each partition and its exchange returns, each on a thread."""
    threads, results = Threads(PARTS), [None] * PARTS

    def one(part: int) -> None:
        results[part] = act(part, threads.of(part))

    workers = [threading.Thread(target=one, args=(p,)) for p in range(PARTS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
    assert all(result is not None for result in results)
    return results


def refreshed(part_config: Path, train: list[Any], fanouts: list[Any], batch: int, **more: Any) -> list[Any]:
    from rudder.integrations.dgl_vip import refresh

    return on_every_part(
        lambda part, exchange: refresh(
            running(part_config, part), train[part], fanouts, batch, exchange=exchange, **more
        )
    )


def test_a_refresh_at_run_time_equals_partitioning_anew(made: Path, source: Graph) -> None:
    layout = read_layout(made)
    train = split_evenly({"_N": np.flatnonzero(node_data(made, "_N/train_mask"))}, layout)
    same = refreshed(made, [torch.from_numpy(ids) for ids in train], FANOUTS, BATCH)
    for part in range(PARTS):
        stored = load_prior(made, part)
        assert stored is not None
        assert np.abs(same[part]["_N"] - stored).max() <= 1e-6
    original = node_data(made, "_N/features")[:, 0].astype(int)
    other = refreshed(made, [ids[:20] for ids in train], [2, 2, 4], 5, trainers=2)
    relation = in_edges(source.src, source.dst, 3000)
    for part in range(PARTS):
        expected = vip(relation, 3000, original[train[part][:20]], [2, 2, 4], 5, trainers=2)
        assert np.abs(other[part]["_N"] - expected[original]).max() <= 1e-6


def test_a_prior_is_made_with_one_part_at_hand(made: Path, tmp_path: Path) -> None:
    """Each process has a folder in which the files of the other partitions are not."""
    for part in range(PARTS):
        shutil.copytree(made.parent, tmp_path / str(part))
        for other in {*range(PARTS)} - {part}:
            shutil.rmtree(tmp_path / str(part) / f"part{other}")
        (tmp_path / str(part) / f"part{part}" / "rudder_prior.npz").unlink()
    reports = on_every_part(
        lambda part, exchange: make_prior(
            tmp_path / str(part) / "g.json", part, exchange, TrainedWith(FANOUTS, BATCH)
        )
    )
    assert [report.train_nodes for report in reports] == [300] * PARTS
    for part in range(PARTS):
        stored, info = read_prior(made.parent / f"part{part}" / "rudder_prior.npz")
        alone, alone_info = read_prior(tmp_path / str(part) / f"part{part}" / "rudder_prior.npz")
        assert alone_info == info
        assert np.array_equal(alone["_N"], stored["_N"])
        assert reports[part].remote_rows_per_minibatch > 0


def test_degree_is_the_local_fallback(made: Path) -> None:
    from rudder.integrations.dgl_vip import local_degree_prior

    g = running(made, 1)
    prior = local_degree_prior(g)["_N"]
    local = g.local_partition
    src, dst = local.edges()
    inner = local.ndata["inner_node"][dst] == 1
    expected = np.bincount(local.ndata[dgl.NID][src[inner]].numpy(), minlength=3000)
    assert np.array_equal(prior, expected)
    assert expected.sum() > 0


def test_a_job_starts_from_the_stored_prior_or_else_from_degree(made: Path, tmp_path: Path) -> None:
    from rudder.integrations.dgl_vip import initial_prior, local_degree_prior

    prior, kind = initial_prior(running(made, 2), made)
    assert kind == "vip"
    assert np.array_equal(prior, load_prior(made, 2))
    bare = tmp_path / "copy" / "g.json"
    shutil.copytree(made.parent, bare.parent)
    (bare.parent / "part2" / "rudder_prior.npz").unlink()
    prior, kind = initial_prior(running(bare, 2), bare)
    assert kind == "degree"
    assert np.array_equal(prior, local_degree_prior(running(made, 2))["_N"])


def test_without_a_local_partition_there_is_a_clear_error(made: Path) -> None:
    from rudder.integrations.dgl_vip import local_degree_prior

    g = running(made, 0)
    g.local_partition = None
    with pytest.raises(ConfigError, match="holds no partition"):
        local_degree_prior(g)


def hetero(seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    users, items = 400, 250
    buys = torch.from_numpy(rng.integers(0, users, 3000)), torch.from_numpy(rng.integers(0, items, 3000))
    knows = torch.from_numpy(rng.integers(0, users, 1500)), torch.from_numpy(rng.integers(0, users, 1500))
    graph = dgl.heterograph(
        {
            ("user", "buys", "item"): buys,
            ("item", "sold-to", "user"): buys[::-1],
            ("user", "knows", "user"): knows,
        },
        num_nodes_dict={"user": users, "item": items},
    )
    for ntype in graph.ntypes:
        graph.nodes[ntype].data["original"] = torch.arange(graph.num_nodes(ntype))
    graph.nodes["item"].data["train_mask"] = torch.from_numpy(rng.random(items) < 0.5)
    return graph


def test_heterogeneous_priors_per_type_and_edge_type(tmp_path: Path) -> None:
    graph = hetero()
    fanouts = [{"buys": 2, "sold-to": 3, ("user", "knows", "user"): 0}, 4]
    partition_graph(graph, tmp_path / "h", parts=PARTS, fanouts=fanouts, batch_size=20, trainers=2, name="h")
    config = tmp_path / "h" / "h.json"
    original = {ntype: node_data(config, f"{ntype}/original") for ntype in graph.ntypes}
    train = {"item": np.flatnonzero(node_data(config, "item/train_mask"))}
    # The whole graph in one numbering of its own: items first, then users, both by their original ids.
    first = {"item": 0, "user": graph.num_nodes("item")}
    n = graph.num_nodes()
    relations = []
    for etype in graph.canonical_etypes:
        src, dst = (ends.numpy() for ends in graph.edges(etype=etype))
        relations.append(in_edges(src + first[etype[0]], dst + first[etype[2]], n, ":".join(etype)))
    layout = read_layout(config)
    spread = NodeLayout(layout.ranges)
    whole_original = np.empty(n, dtype=np.int64)
    for ntype in graph.ntypes:
        whole_original[spread.whole_ids(np.arange(graph.num_nodes(ntype)), ntype)] = (
            first[ntype] + original[ntype]
        )
    for part, seeds in enumerate(split_evenly(train, layout)):
        expected = vip(relations, n, whole_original[seeds], fanouts, 20, trainers=2)
        assert expected.any()
        for ntype in graph.ntypes:
            prior = load_prior(config, part, ntype)
            assert prior is not None
            assert np.abs(prior - expected[first[ntype] + original[ntype]]).max() <= 1e-6


def test_refuses_to_overwrite_and_force_keeps_other_files(source: Graph, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    (out / "other.json").write_text("{}")
    with pytest.raises(ConfigError, match="not empty"):
        partition_graph(source, out, parts=2, name="g")
    assert sorted(path.name for path in out.iterdir()) == ["notes.txt", "other.json"]
    partition_graph(source, out, parts=3, method="random", name="old", force=True)
    partition_graph(source, out, parts=2, method="random", name="new", force=True)
    assert sorted(path.name for path in out.iterdir()) == [
        "new.json",
        "notes.txt",
        "other.json",
        "part0",
        "part1",
    ]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"parts": 0}, "parts is 0"),
        ({"method": "best"}, "metis, random"),
        ({"self_loops": "some"}, "keep, drop, add"),
        ({"fanouts": []}, "one number"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"name": "a/b"}, "slashes"),
        ({"parts": 4000}, "fewer parts"),
    ],
)
def test_refuses_what_cannot_work_and_leaves_nothing(
    source: Graph, tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        partition_graph(source, tmp_path / "out", **{"name": "g", **settings})
    assert not (tmp_path / "out").exists()


def test_random_partitions_repeat_with_their_seed(source: Graph, tmp_path: Path) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        partition_graph(source, tmp_path / name, parts=2, method="random", seed=seed, name="g")
    maps = [json.loads((tmp_path / name / "g.json").read_text())["node_map"] for name in "abc"]
    assert maps[0] == maps[1]
    first = [load_prior(tmp_path / name / "g.json", 0) for name in "abc"]
    assert np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], first[2])


def test_one_partition_is_the_whole_graph(source: Graph, tmp_path: Path) -> None:
    report = partition_graph(source, tmp_path / "one", parts=1, name="g", fanouts=FANOUTS, batch_size=BATCH)
    assert report.parts[0].remote_rows_per_minibatch == 0
    prior = load_prior(tmp_path / "one" / "g.json", 0)
    relation = in_edges(source.src, source.dst, 3000)
    expected = vip(relation, 3000, np.flatnonzero(source.train_mask), FANOUTS, BATCH)
    assert prior is not None
    assert np.abs(prior - expected).max() <= 1e-6


def test_the_command_writes_partitions_and_a_report(tmp_path: Path) -> None:
    typer = pytest.importorskip("typer")
    from typer.testing import CliRunner

    from rudder.cli.partition import register

    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    plain = generate(800, 6000, num_classes=4, feature_dim=4)
    save_npz(tmp_path / "tiny.npz", Graph(name="tiny", src=plain.src, dst=plain.dst, num_nodes=800))
    words = ["partition", str(tmp_path / "tiny.npz"), "--out", str(tmp_path / "out"), "--parts", "2"]
    # METIS does not repeat itself to the node; a random assignment does.
    words += ["--method", "random", "--fanout", "2,3", "--feature-dim", "6", "--json"]
    result = CliRunner().invoke(app, [*words, str(tmp_path / "report.json")])
    assert result.exit_code == 0, result.output
    assert "remote rows" in result.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["graph_name"], report["fanouts"], len(report["parts"])) == ("tiny", [2, 3], 2)
    config = tmp_path / "out" / "tiny.json"
    assert dgl.distributed.load_partition(str(config), 0)[1]["_N/features"].shape[1] == 6
    again = CliRunner().invoke(app, [*words, "-"])
    assert isinstance(again.exception, ConfigError)
    alone = CliRunner().invoke(app, [*words, "-", "--force"])
    assert json.loads(alone.stdout) == {**report, "seconds": json.loads(alone.stdout)["seconds"]}
