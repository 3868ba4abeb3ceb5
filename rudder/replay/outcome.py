"""What a replay found: one policy under one setting on one trace."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rudder.replay.cost import WindowMemory

_NO_WINDOW = WindowMemory()


@dataclass(frozen=True)
class Outcome:
    """One policy under one setting on one trace. Rows are summed over all minibatches.

    ``capacity_rows``: the memory given. ``buffer_rows``: what the buffer got of it (less with equal memory).
    ``rows_staged``: requested rows that the buffer did not have and that needed no fetch either, since they
    were still staged for an earlier minibatch. ``min_rows``: what MIN moves with all of the memory, and
    without staging, so that a policy with it can move less; None for a live run whose plan changed the
    capacity on the way: no single MIN compares with it. ``sharing``: "private" or "shared" among trainers, or
    None.
    ``live``: the calls of a recorded run under its own settings. ``truncated``: the trace's file ends early.
    """

    trace: str
    policy: str
    capacity_fraction: float | None
    capacity_rows: int
    window: float | str | None
    rows_moved: int
    replacement_rows: int
    rows_requested: int
    rows_hit: int
    rows_staged: int
    min_rows: int | None
    buffer_rows: int
    minibatches: int
    seconds_per_step: float
    memory: WindowMemory = _NO_WINDOW
    sharing: str | None = None
    live: bool = False
    truncated: bool = False

    @property
    def times_min(self) -> float | None:
        """Rows moved as a multiple of MIN; None where MIN moves none."""
        return self.rows_moved / self.min_rows if self.min_rows else None

    @property
    def times_none(self) -> float | None:
        """Rows moved as a share of what moves without a buffer; None where nothing was requested."""
        return self.rows_moved / self.rows_requested if self.rows_requested else None

    @property
    def gap_left(self) -> float | None:
        """Share of the way from no buffer to MIN that is left: 0 is MIN, 1 no buffer."""
        if self.min_rows is None:
            return None
        gap = self.rows_requested - self.min_rows
        return (self.rows_moved - self.min_rows) / gap if gap else None

    @property
    def hit_rate(self) -> float:
        """Share of the requested rows found in the buffer."""
        return self.rows_hit / self.rows_requested if self.rows_requested else 0.0

    def as_json(self) -> dict[str, Any]:
        """An object of plain values."""
        return {
            "trace": self.trace,
            "policy": self.policy,
            "capacity_fraction": self.capacity_fraction,
            "capacity_rows": self.capacity_rows,
            "window": self.window,
            "rows_moved": self.rows_moved,
            "replacement_rows": self.replacement_rows,
            "rows_requested": self.rows_requested,
            "rows_staged": self.rows_staged,
            "min_rows": self.min_rows,
            "times_min": _rounded(self.times_min),
            "times_none": _rounded(self.times_none),
            "gap_left": _rounded(self.gap_left),
            "hit_rate": _rounded(self.hit_rate),
            "minibatches": self.minibatches,
            "seconds_per_step": _rounded(self.seconds_per_step, 9),
            "buffer_rows": self.buffer_rows,
            "window_requests": self.memory.requests,
            "window_minibatches": self.memory.minibatches,
            "window_id_bytes": self.memory.id_bytes,
            "window_block_bytes": self.memory.block_bytes,
            "sharing": self.sharing,
            "live": self.live,
            "truncated": self.truncated,
        }


def _rounded(value: float | None, digits: int = 6) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, digits)
