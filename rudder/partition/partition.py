"""From a graph to DistDGL partitions with a VIP prior beside each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Union

from rudder.errors import ConfigError
from rudder.graphs.graph import Graph
from rudder.graphs.synthesise import complete
from rudder.integrations.dgl_partition import is_dgl_graph, read_partition_edges, to_dgl, write_partitions
from rudder.partition.prior import PartReport, TrainedWith, prior_steps
from rudder.partition.target import make_room, move_into
from rudder.vip.formula import HopFanout
from rudder.vip.layout import read_layout
from rudder.vip.shard import run_in_process

METHODS = ("metis", "random")
SELF_LOOPS = ("keep", "drop", "add")
# The graph itself, a DGLGraph, is typed Any because DGL is optional.
AnyGraph = Union[Graph, Any]


@dataclass(frozen=True)
class PartitionReport:
    """What `partition_graph` made."""

    graph_name: str
    part_config: str
    num_nodes: int
    num_edges: int
    method: str
    fanouts: list[Any]
    batch_size: int
    trainers: int
    seconds: dict[str, float]
    parts: list[PartReport]

    def as_json(self) -> dict[str, Any]:
        """Plain values for json.dump."""
        return asdict(self)


def partition_graph(
    graph: AnyGraph,
    out_dir: str | Path,
    *,
    name: str | None = None,
    parts: int = 2,
    fanouts: Sequence[HopFanout] = (10, 25),
    batch_size: int = 1000,
    trainers: int = 1,
    method: str = "metis",
    seed: int = 0,
    undirected: bool = True,
    self_loops: str = "keep",
    feature_dim: int = 128,
    balance_train: bool = True,
    balance_edges: bool = True,
    force: bool = False,
    on_stage: Callable[[str], None] | None = None,
) -> PartitionReport:
    """Partition a graph for DistDGL and store a VIP prior beside each partition.

    graph: a rudder.graphs.Graph (what it lacks of features, labels and split is synthesised; node data are
        then "features", "labels", "train_mask", "val_mask", "test_mask"), or a DGLGraph of any node and edge
        types, taken as it is (its train nodes are those of "train_mask").
    out_dir: gets ``{name}.json`` and ``part{i}/``. Must be empty or absent, unless `force`: then earlier
        partitions in it are replaced, other files stay.
    fanouts, batch_size, trainers: what the job will train with. fanouts are in the order of DGL's
        NeighborSampler; trainers are processes per host, and make a host's q0 = batch_size * trainers / its
        train nodes, at most 1.
    undirected: store the reverse of every arc as well, so that messages reach both ends; self_loops: keep,
        drop or add. Both apply to a Graph only.
    seed: of synthesised data and random partitions. METIS under balancing constraints does not repeat itself.
    on_stage: called with a few words whenever a new stage begins.

    Raises ConfigError for settings that cannot work. Until it returns, out_dir holds no part config.
    """
    trained_with = TrainedWith(fanouts, batch_size, trainers).plain()
    _check(parts=parts, batch_size=batch_size, trainers=trainers, feature_dim=feature_dim)
    for key, value, known in (("method", method, METHODS), ("self_loops", self_loops, SELF_LOOPS)):
        if value not in known:
            raise ConfigError(f"{key} '{value}': choose one of {', '.join(known)}")
    name = name or (graph.name if isinstance(graph, Graph) else "graph")
    if not name or any(c in name for c in "/\\\0"):
        raise ConfigError(f"graph name '{name}': it names files, so give one without slashes")
    watch = _Watch(on_stage)

    with make_room(Path(out_dir), force=force) as staging:
        if isinstance(graph, Graph):
            watch.stage("preparing the graph")
            plain = complete(graph, feature_dim=feature_dim, seed=seed)
            dgl_graph = to_dgl((plain.bidirected() if undirected else plain).with_self_loops(self_loops))
        elif is_dgl_graph(graph):
            dgl_graph = graph
        else:
            raise ConfigError(
                f"cannot partition a {type(graph).__name__}; give a rudder.graphs.Graph or a DGLGraph"
            )
        if parts > dgl_graph.num_nodes():
            raise ConfigError(f"{parts} partitions of {dgl_graph.num_nodes()} nodes: give fewer parts")

        watch.stage(f"partitioning into {parts} ({method})")
        written = write_partitions(
            dgl_graph,
            name,
            staging,
            parts,
            method=method,
            seed=seed,
            balance_train=balance_train,
            balance_edges=balance_edges,
        )
        watch.stage("computing the VIP prior")
        layout = read_layout(written.part_config)
        steps = [
            prior_steps(
                written.part_config,
                read_partition_edges(written.part_config, p, layout),
                written.train[p],
                layout,
                trained_with,
            )
            for p in range(parts)
        ]
        reports = run_in_process(steps)
        watch.stage("writing")
        move_into(staging, Path(out_dir))
    watch.stop()
    return PartitionReport(
        graph_name=name,
        part_config=str(Path(out_dir) / f"{name}.json"),
        num_nodes=dgl_graph.num_nodes(),
        num_edges=dgl_graph.num_edges(),
        method=method,
        fanouts=list(trained_with.fanouts),
        batch_size=batch_size,
        trainers=trainers,
        seconds=watch.seconds,
        parts=reports,
    )


def _check(**at_least_one: int) -> None:
    for key, value in at_least_one.items():
        if value < 1:
            raise ConfigError(f"{key} is {value}; it must be at least 1")


class _Watch:
    """Names the stages to the caller and keeps the seconds that each took."""

    def __init__(self, on_stage: Callable[[str], None] | None) -> None:
        self.seconds: dict[str, float] = {}
        self._on_stage = on_stage
        self._current: str | None = None
        self._since = 0.0

    def stage(self, words: str) -> None:
        self.stop()
        self._current, self._since = words, time.perf_counter()
        if self._on_stage is not None:
            self._on_stage(words)

    def stop(self) -> None:
        if self._current is not None:
            self.seconds[self._current] = round(time.perf_counter() - self._since, 3)
            self._current = None
