"""Everything that may be chosen for a demonstration, as one value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from rudder.config import Capacity
from rudder.errors import ConfigError

# Edges of the generated graph, both directions, for each of its nodes: as in social and citation graphs.
ARCS_PER_NODE = 15


@dataclass(frozen=True)
class DemoSettings:
    """Settings of both runs. Raises ConfigError for values that cannot work.

    The defaults fit two cores and three minutes: minibatches small enough that most of the graph is not in
    every one of them, and epochs enough that a buffer has something to keep.
    """

    #: An .npz file; None: the generated graph.
    graph: Path | None = None
    #: Nodes of the generated graph.
    nodes: int = 100_000
    #: Width of features that are made, where the file has none.
    feature_dim: int = 128
    hosts: int = 2
    #: Per host.
    trainers: int = 1
    capacity: Capacity = 0.25
    epochs: int = 5
    #: Neighbours per hop, in the order of DGL's NeighborSampler.
    fanout: tuple[int, ...] = (10, 10)
    batch_size: int = 500
    policy: str = "lookahead"
    #: None: the agent, where its model and llama.cpp are, else the default plan.
    controller: str | None = None
    #: The agent's GGUF file, or the address of a model server; None: the model that comes with the package.
    agent_model: str | None = None
    #: Tokens and cores of the agent's model; None: as the environment says, else 4096 and 1.
    agent_context: int | None = None
    agent_threads: int | None = None
    #: Let the trainers of a host trade memory of their buffers.
    share_memory: bool = False
    #: "shm", "ucx", "kvstore", or several with commas; None: measured.
    transport: str | None = None
    #: Buffers of remote requests sampled ahead; None: as the default plan says.
    window: float | None = None
    #: Minibatches fetched ahead; None: as the default plan says.
    depth: int | None = None
    seed: int = 0
    #: Shape each host's link, as `tc` spells it ("1gbit"): hosts in network namespaces, root only.
    rate: str | None = None
    #: Compare every batch of the run with Rudder with the stock pull, bit for bit.
    verify: bool = False
    #: Folder for the accesses of the run with Rudder, for `rudder replay`.
    record: Path | None = None

    def __post_init__(self) -> None:
        """Check what would otherwise fail minutes later, in a trainer."""
        for name, value in (
            ("nodes", self.nodes),
            ("feature-dim", self.feature_dim),
            ("trainers", self.trainers),
            ("epochs", self.epochs),
            ("batch-size", self.batch_size),
            ("depth", 1 if self.depth is None else self.depth),
            *(("fanout", neighbours) for neighbours in self.fanout),
        ):
            if value < 1:
                raise ConfigError(f"--{name} {value}: it must be at least 1")
        if self.hosts < 2:
            raise ConfigError(f"--hosts {self.hosts}: with fewer than 2 no row is remote")
        if self.share_memory and self.trainers < 2:
            raise ConfigError("--share-memory: a host of one trainer has nobody to share with; --trainers 2")
        if not self.fanout:
            raise ConfigError("--fanout: give the neighbours of each hop, such as 10,25")
        if self.graph is not None and not self.graph.is_file():
            raise ConfigError(f"--graph {self.graph}: no such file")


def parse_capacity(text: str) -> Capacity:
    """``0.25`` is a fraction of the halo, ``25000`` rows, anything else memory or percent ("2GiB", "25%")."""
    if re.fullmatch(r"\d+", text):
        return int(text)
    if re.fullmatch(r"\d*\.\d*", text) and text != ".":
        return float(text)
    return text


def parse_fanout(text: str) -> tuple[int, ...]:
    """``10,25`` as numbers. Raises ConfigError."""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ConfigError(f"--fanout {text!r}: write numbers with commas, such as 10,25") from None
