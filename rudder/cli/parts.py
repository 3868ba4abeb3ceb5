"""What `rudder partition` and `rudder prior` share: how fanouts are written, and the table of partitions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rudder.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from rudder.partition import PartReport
    from rudder.vip import HopFanout

FANOUT_HELP = (
    "Neighbours per hop, as NeighborSampler takes them: 10,25; numbers per edge type as JSON: "
    '[{"buys": 10, "sold-to": 5}, 25].'
)


def parse_fanouts(text: str) -> list[HopFanout]:
    """Fanouts as the command line has them. Raises ConfigError."""
    try:
        if text.lstrip().startswith("["):
            found: list[HopFanout] = json.loads(text)
            return found
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"--fanout {text!r}: give numbers separated by commas, one per hop, e.g. 10,25, or a JSON list"
        ) from None


def parts_table(parts: Sequence[PartReport]) -> Table:
    """A line for each partition."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("part", "nodes", "halo", "in-edges", "from halo", "train", "remote rows/minibatch"):
        table.add_column(heading, justify="right")
    for part in parts:
        share = part.in_edges_from_halo / part.in_edges if part.in_edges else 0.0
        table.add_row(
            str(part.part),
            f"{part.nodes:,}",
            f"{part.halo_nodes:,}",
            f"{part.in_edges:,}",
            f"{share:.1%}",
            f"{part.train_nodes:,}",
            f"{part.remote_rows_per_minibatch:,.0f}",
        )
    return table
