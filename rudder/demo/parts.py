"""The partitions that a demonstration trains on, kept between runs.

They lie in `$XDG_CACHE_HOME/rudder/demo` (by default `~/.cache/rudder/demo`), or where RUDDER_CACHE says:
one folder for each combination of graph and settings that the partitions or their prior depend on. Folders
are never changed, so that deleting any of them is safe while no demonstration runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rudder.demo.settings import ARCS_PER_NODE, DemoSettings
from rudder.vip.formula import FORMULA_VERSION

# Part of every key: raised whenever the same settings begin to give other partitions.
_FORMAT = 1
_REPORT = "report.json"


@dataclass(frozen=True)
class Parts:
    """Partitions on disk."""

    part_config: Path
    graph: str
    num_nodes: int
    num_edges: int
    #: Of each partition: nodes that it holds but does not own.
    halo_nodes: list[int]
    #: Seconds that partitioning took, when it was done.
    seconds: float
    #: Whether they were there already.
    cached: bool


def cache_folder() -> Path:
    """Where partitions are kept."""
    named = os.environ.get("RUDDER_CACHE")
    base = (
        Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rudder"
    )
    return base / "demo"


def prepare(settings: DemoSettings, on_stage: Callable[[str], None] = lambda words: None) -> Parts:
    """The partitions for these settings: from the cache, or made now. Raises ConfigError, FormatError."""
    folder = cache_folder() / key(settings)
    with _alone(folder):
        report_file = folder / _REPORT
        cached = report_file.is_file()
        if not cached:
            # Whatever is there without a report was left by a run that was killed.
            shutil.rmtree(folder, ignore_errors=True)
            with _stderr_to(folder.with_suffix(".log")):
                report = _partition(settings, folder, on_stage)
            draft = report_file.with_suffix(".new")
            draft.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            draft.replace(report_file)
        report = json.loads(report_file.read_text(encoding="utf-8"))
    return Parts(
        part_config=folder / f"{report['graph_name']}.json",
        graph=report["graph_name"],
        num_nodes=report["num_nodes"],
        num_edges=report["num_edges"],
        halo_nodes=[part["halo_nodes"] for part in report["parts"]],
        seconds=sum(report["seconds"].values()),
        cached=cached,
    )


def key(settings: DemoSettings) -> str:
    """A name for what the partitions and their prior depend on: the graph's content and some settings."""
    if settings.graph is None:
        graph: list[Any] = ["generated", settings.nodes, ARCS_PER_NODE]
    else:
        with settings.graph.open("rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
        graph = [settings.graph.stem, digest.hexdigest()]
    depends_on = [
        _FORMAT,
        FORMULA_VERSION,
        graph,
        settings.feature_dim,
        settings.hosts,
        settings.trainers,
        settings.fanout,
        settings.batch_size,
        settings.seed,
    ]
    digest = hashlib.sha256(json.dumps(depends_on).encode())
    return f"{graph[0]}-{settings.hosts}-{digest.hexdigest()[:12]}"


def _partition(settings: DemoSettings, folder: Path, on_stage: Callable[[str], None]) -> dict[str, Any]:
    from rudder.graphs import generate, load_npz
    from rudder.partition import partition_graph

    on_stage("loading the graph" if settings.graph else "generating the graph")
    if settings.graph is None:
        graph = generate(
            settings.nodes,
            settings.nodes * ARCS_PER_NODE,
            feature_dim=settings.feature_dim,
            seed=settings.seed,
        )
    else:
        graph = load_npz(settings.graph)
    report = partition_graph(
        graph,
        folder,
        parts=settings.hosts,
        fanouts=settings.fanout,
        batch_size=settings.batch_size,
        trainers=settings.trainers,
        seed=settings.seed,
        feature_dim=settings.feature_dim,
        force=True,
        on_stage=on_stage,
    )
    return report.as_json()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time makes or opens a folder; a second one waits and finds it made."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _stderr_to(path: Path) -> Iterator[None]:
    """Send to a file what is written to the descriptor of stderr: METIS reports there, past Python."""
    kept = os.dup(2)
    with path.open("w") as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
