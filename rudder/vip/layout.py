"""How a partitioned graph numbers its nodes: ranges per type and partition, as DGL's part config holds them.

Every node has a *whole-graph id* (all types in one numbering; partition 0's nodes first, by type within the
partition) and a *typed id* (per type, from 0), which is what users index features with. On graphs with one
node type they are equal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rudder.errors import ConfigError, FormatError, IdError


@dataclass(frozen=True)
class NodeLayout:
    """Ranges of whole-graph ids: ``ranges[ntype]`` is int64 [parts, 2], start and end per partition."""

    ranges: Mapping[str, NDArray[np.int64]]

    def __post_init__(self) -> None:
        """Check that the ranges tile the ids, partition after partition."""
        if not self.ranges or len({len(ranges) for ranges in self.ranges.values()}) != 1:
            raise FormatError("node map: every node type needs one range per partition")
        tiles = sorted(tuple(pair) for ranges in self.ranges.values() for pair in ranges.tolist())
        edges = [0, *(end for _, end in tiles)]
        if any(start != edge or start > end for (start, end), edge in zip(tiles, edges)):
            raise FormatError("node map: the ranges of ids overlap or leave a gap")

    @property
    def num_parts(self) -> int:
        """Partitions of the graph."""
        return len(next(iter(self.ranges.values())))

    @property
    def ntypes(self) -> list[str]:
        """Node types, in the order of their numbers."""
        return list(self.ranges)

    @property
    def num_nodes(self) -> int:
        """Nodes of all types."""
        return int(self.part_starts[-1])

    @property
    def part_starts(self) -> NDArray[np.int64]:
        """int64 [parts + 1]: partition p owns the whole-graph ids in [part_starts[p], part_starts[p + 1])."""
        ends = np.max([ranges[:, 1] for ranges in self.ranges.values()], axis=0)
        return np.concatenate([[0], ends]).astype(np.int64)

    def count(self, ntype: str) -> int:
        """Nodes of one type."""
        return int(self.typed_starts(ntype)[-1])

    def typed_starts(self, ntype: str) -> NDArray[np.int64]:
        """int64 [parts + 1]: partition p owns the typed ids in [starts[p], starts[p + 1])."""
        ranges = self._ranges_of(ntype)
        return np.concatenate([[0], np.cumsum(ranges[:, 1] - ranges[:, 0])]).astype(np.int64)

    def typed(self, values: NDArray[Any], ntype: str) -> NDArray[Any]:
        """The entries of one type of an array over all nodes, by typed id."""
        return np.concatenate([values[start:end] for start, end in self._ranges_of(ntype)])

    def whole_ids(self, ids: NDArray[np.integer], ntype: str) -> NDArray[np.int64]:
        """Whole-graph ids of typed ids. Raises IdError for ids that do not exist."""
        ranges = self._ranges_of(ntype)
        ends = self.typed_starts(ntype)[1:]
        ids = np.asarray(ids, dtype=np.int64)
        if len(ids) and (ids.min() < 0 or ids.max() >= ends[-1]):
            raise IdError(
                f"node ids of type '{ntype}' lie in [{ids.min()}, {ids.max()}], outside [0, {ends[-1]})"
            )
        part = np.searchsorted(ends, ids, side="right")
        whole: NDArray[np.int64] = ids + (ranges[:, 1] - ends)[part]
        return whole

    def _ranges_of(self, ntype: str) -> NDArray[np.int64]:
        if ntype not in self.ranges:
            raise ConfigError(f"no node type '{ntype}'; there are {', '.join(self.ranges)}")
        return self.ranges[ntype]


def read_layout(part_config: str | Path) -> NodeLayout:
    """The layout in a DistDGL part config (``<graph>.json``). Raises FormatError where it holds none."""
    config = read_part_config(part_config)
    try:
        numbers, node_map = config["ntypes"], config["node_map"]
        ranges = {
            ntype: np.asarray(node_map[ntype], dtype=np.int64).reshape(config["num_parts"], 2)
            for ntype in sorted(numbers, key=numbers.__getitem__)
        }
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(
            f"{part_config}: not a part config of DistDGL with ranges of node ids ({error!r})"
        ) from error
    return NodeLayout(ranges)


def read_part_config(part_config: str | Path) -> dict[str, Any]:
    """The JSON object of a part config. Raises FormatError where it is not one."""
    try:
        config = json.loads(Path(part_config).read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FormatError(f"{part_config}: not JSON ({error})") from error
    if not isinstance(config, dict) or "num_parts" not in config:
        raise FormatError(f"{part_config}: not a part config of DistDGL (no num_parts)")
    return config
