"""What moving rows and looking ahead would cost: time per step on a link, bytes of the window.

Time per step, of mean values: a fetch takes the latency once and its bytes over the bandwidth. Stages of
a prefetcher that fetches ahead (depth 1 or more) overlap, so a step takes as long as the slowest of
computing, sampling and fetching; at depth 0 they follow one another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rudder.errors import ConfigError
from rudder.source import Ids

if TYPE_CHECKING:
    from rudder.replay.settings import Window

_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)(bit/s|bit|bps|b/s|b)\s*", re.IGNORECASE)
_TIME = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(us|ms|s)\s*")
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def parse_bandwidth(text: str) -> float:
    """Bytes a second of "10gbit" (bits) or "1.2GB" (bytes). Raises ConfigError."""
    match = _RATE.fullmatch(text)
    if match is None or float(match[1]) == 0:
        raise ConfigError(f"bandwidth {text!r}: write bits ('10gbit') or bytes ('1.2GB') a second")
    rate: float = float(match[1]) * (1024 if match[3] else 1000) ** _POWER[match[2].lower()]
    return rate / 8 if match[4].lower().startswith(("bit", "bps")) else rate


def parse_seconds(text: str, what: str) -> float:
    """Seconds of "100us", "3ms" or "0.5s". Raises ConfigError."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ConfigError(f"{what} {text!r}: write a time with its unit: '100us', '3ms' or '0.5s'")
    return float(match[1]) * _SECONDS[match[2]]


@dataclass(frozen=True)
class Costs:
    """What a row, a waiting request and a step cost. Raises ConfigError for values that cannot be."""

    #: Bytes a second, and seconds until the first of them arrives.
    bandwidth: float = 1.25e9
    latency: float = 100e-6
    #: Seconds of a step; None: as recorded, else 0.
    compute: float | None = None
    sampling: float | None = None
    #: Minibatches fetched ahead; what counts is whether there are any.
    depth: int = 2
    #: Bytes of a feature row; None: as recorded, else 1536 (384 floats).
    row_bytes: int | None = None
    #: A request in the window: 8 bytes, and 16 for its row, as if no two requests shared one
    #: (csrc/window/window.h).
    request_bytes: int = 24
    #: Edges of a minibatch's blocks, and bytes that each takes while it waits; 0 edges: only ids wait, blocks
    #: are sampled again from the sampler's seed.
    edges: int = 0
    edge_bytes: float = 4.0

    def __post_init__(self) -> None:
        """Check the bounds."""
        if self.bandwidth <= 0:
            raise ConfigError("the bandwidth must be above 0")
        if self.row_bytes is not None and self.row_bytes < 1:
            raise ConfigError(f"row bytes of {self.row_bytes}: a row has at least 1")
        for name in ("latency", "depth", "request_bytes", "edges", "edge_bytes"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name.replace('_', ' ')} of {getattr(self, name)}: it cannot be negative")


def seconds_per_step(costs: Costs, rows: float, row_bytes: int, *, compute: float, sampling: float) -> float:
    """Seconds of a step that moves ``rows`` rows; see the top of this file."""
    fetch = costs.latency + rows * row_bytes / costs.bandwidth if rows > 0 else 0.0
    stages = (compute, sampling, fetch)
    return max(stages) if costs.depth >= 1 else sum(stages)


@dataclass(frozen=True)
class WindowMemory:
    """What waits in the window at its fullest."""

    requests: int = 0
    minibatches: int = 0
    id_bytes: int = 0
    block_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """Ids and blocks."""
        return self.id_bytes + self.block_bytes


def window_memory(offsets: Ids, window: Window, capacity: int, costs: Costs) -> WindowMemory:
    """Memory of a window kept full beyond the minibatch in use, for a buffer of ``capacity`` rows."""
    last = len(offsets) - 1
    here = np.arange(1, last + 1)
    reach = np.maximum(
        np.minimum(here + window.minibatches, last),
        np.minimum(np.searchsorted(offsets, offsets[1:] + window.rows(capacity)), last),
    )
    requests = int((offsets[reach] - offsets[here]).max(initial=0))
    minibatches = int((reach - here).max(initial=0))
    return WindowMemory(
        requests,
        minibatches,
        requests * costs.request_bytes,
        round(minibatches * costs.edges * costs.edge_bytes),
    )


def rows_at_equal_memory(offsets: Ids, window: Window, capacity: int, costs: Costs, row_bytes: int) -> int:
    """Rows that a buffer may hold so that it and its window take no more bytes than ``capacity`` rows.

    0 where the window alone takes more.
    """
    low, high = 0, capacity
    while low < high:
        middle = (low + high + 1) // 2
        taken = middle * row_bytes + window_memory(offsets, window, middle, costs).total_bytes
        if taken <= capacity * row_bytes:
            low = middle
        else:
            high = middle - 1
    return low
