"""What a run measures: totals since the start, and their difference over one interval.

Schema 1, one JSON object a line (`kind` is "start", "interval" or "end"), all numbers of one rank and tensor:

====================  ==============================================================================
field                 meaning
====================  ==============================================================================
ids_requested         ids asked for, local ones and repetitions included
rows_requested        remote rows asked for, each once per minibatch: what moves without a buffer. They
                      count when their minibatch is planned, ahead of its use, until it is dropped
rows_hit              of these, found in the buffer
rows_hit_on_device    of these, found in GPU memory
rows_moved            rows that crossed the transport
rows_refetched        of these, moved again because their source was written to
rows_merged           rows asked for while already on their way, so not fetched twice
rows_saved            rows_requested - rows_moved
rows_replaced         rows moved for the buffer's sake alone (the paper's replacement fetches)
rows_evicted          rows that left the buffer
rows_wasted           rows moved for minibatches that were dropped before they were used, whose requests
                      and hits are not counted
rows_read_unplanned   remote rows asked for that no minibatch of the window had announced
fetches_failed        fetches that ended in an error, where no fallback answered either
promotions_refused    times that rows could not be taken up to GPU memory, which was full; they go up later
hit_rate              rows_hit / rows_requested of this interval; 0 where nothing was requested
bytes_*               the same in bytes: rows x row_bytes
seconds_wall          from the first minibatch of the interval to the first of the next
seconds_sampling      the loader at work, on the sampling thread (overlaps the rest)
seconds_fetching      at least one fetch under way (overlaps the rest)
seconds_stalled       the trainer waited: seconds_stalled_sampling for a minibatch to be sampled,
                      seconds_stalled_fetching for rows
seconds_gathering     copying rows into the batch
seconds_training      what is left of seconds_wall: the user's own work
capacity_rows         rows that the buffer may hold; cached_rows: that it holds
device_rows           rows of the buffer that GPU memory may hold, too; device_bytes: GPU memory taken for it
upload_bytes          pinned memory in which rows and lists of rows wait for the GPU, of all its tables;
                      upload_device_bytes: GPU memory for those lists
overhead_bytes        what the buffer occupies beside its rows (those: capacity_rows x row_bytes): which
                      row lies in which slot
window_rows           remote requests that wait in the window; also window_minibatches and
                      window_bytes (its bookkeeping, and that of the rows it tracks)
waiting_bytes         blocks of sampled minibatches that wait for the trainer
staging_bytes_peak    most bytes of fetched rows that ever waited
verified_rows         rows compared with the stock pull (``verify=``); differing_rows among them
refused_decisions     controller answers that could not be used, since the start
decisions_made        plans that the controller was asked for, and gave or failed to give; decisions_valid:
                      those that came in time and may follow
decisions_late        plans that came after their interval's boundary, and were dropped
decisions_adopted     plans that changed the plan in force
decisions_rolled_back times that the guard put the default plan back
seconds_steering      on the trainer's thread: evidence, shadow, asking, writing it down (part of
                      seconds_training, unless there is no loader)
seconds_agent         CPU time of the agent's process for this trainer's decisions (overlaps the rest)
seconds_gained        modelled time that the plans in force saved against the default plan (by the shadow;
                      0 without one); it may be negative
agent_bytes           memory of the agent's process
times_min             rows moved as a multiple of what Belady's MIN, which knows the future, would have
                      moved with the same buffer; null where that is not known (yet) or nothing had to move.
                      It can fall below 1: rows still staged for an earlier minibatch serve later ones for
                      free, and MIN knows of a buffer alone
times_min_error       standard error of its sampling (0: every id was in the sample); null where times_min is
min_rows              rows that MIN would have moved, estimated from a sample of ids; see `rudder.gap`
min_interval          interval that these are about: this one, or an earlier one where it was not computed in
                      time; over a whole run, the last of those counted. null: none
plan                  the plan in force, in its text form
====================  ==============================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from rudder.plan import Plan

SCHEMA = 1

#: Totals that grow; an interval's value is the difference of two snapshots.
GROWING = (
    "ids_requested",
    "rows_requested",
    "rows_hit",
    "rows_hit_on_device",
    "rows_moved",
    "rows_merged",
    "rows_replaced",
    "rows_evicted",
    "rows_read_unplanned",
    "rows_refetched",
    "rows_wasted",
    "fetches_failed",
    "promotions_refused",
    "seconds_wall",
    "seconds_sampling",
    "seconds_fetching",
    "seconds_stalled_sampling",
    "seconds_stalled_fetching",
    "seconds_gathering",
    "verified_rows",
    "differing_rows",
    "decisions_made",
    "decisions_valid",
    "decisions_late",
    "decisions_adopted",
    "decisions_rolled_back",
    "seconds_steering",
    "seconds_agent",
    "seconds_gained",
)
#: Values that hold at one moment.
GAUGES = (
    "capacity_rows",
    "cached_rows",
    "device_rows",
    "device_bytes",
    "upload_bytes",
    "upload_device_bytes",
    "overhead_bytes",
    "window_rows",
    "window_minibatches",
    "window_bytes",
    "waiting_bytes",
    "staging_bytes_peak",
    "refused_decisions",
    "agent_bytes",
)


@dataclass(frozen=True)
class Gap:
    """The distance to MIN over an interval, or over all intervals measured so far."""

    #: Interval that this is about; of several, the last one.
    interval: int
    #: Rows moved, and rows that MIN would have moved (estimated below a rate of 1).
    rows_moved: int
    min_rows: float
    #: Standard error of `min_rows`.
    error: float

    def fields(self) -> dict[str, int | float | None]:
        """By their names in the schema."""
        times = self.rows_moved / self.min_rows if self.min_rows else None
        return {
            "min_interval": self.interval,
            "min_rows": round(self.min_rows),
            "times_min": times,
            "times_min_error": times * self.error / self.min_rows if times is not None else None,
        }


@dataclass(frozen=True)
class IntervalMetrics:
    """What happened to one tensor on one rank over one interval (or over the whole run, see `total`)."""

    tensor: str
    rank: int
    interval: int
    minibatches: int
    plan: Plan
    row_bytes: int
    ids_requested: int = 0
    rows_requested: int = 0
    rows_hit: int = 0
    rows_hit_on_device: int = 0
    rows_moved: int = 0
    rows_merged: int = 0
    rows_replaced: int = 0
    rows_evicted: int = 0
    rows_read_unplanned: int = 0
    rows_refetched: int = 0
    rows_wasted: int = 0
    fetches_failed: int = 0
    promotions_refused: int = 0
    seconds_wall: float = 0.0
    seconds_sampling: float = 0.0
    seconds_fetching: float = 0.0
    seconds_stalled_sampling: float = 0.0
    seconds_stalled_fetching: float = 0.0
    seconds_gathering: float = 0.0
    verified_rows: int = 0
    differing_rows: int = 0
    capacity_rows: int = 0
    cached_rows: int = 0
    device_rows: int = 0
    device_bytes: int = 0
    upload_bytes: int = 0
    upload_device_bytes: int = 0
    overhead_bytes: int = 0
    window_rows: int = 0
    window_minibatches: int = 0
    window_bytes: int = 0
    waiting_bytes: int = 0
    staging_bytes_peak: int = 0
    refused_decisions: int = 0
    decisions_made: int = 0
    decisions_valid: int = 0
    decisions_late: int = 0
    decisions_adopted: int = 0
    decisions_rolled_back: int = 0
    seconds_steering: float = 0.0
    seconds_agent: float = 0.0
    seconds_gained: float = 0.0
    agent_bytes: int = 0
    times_min: float | None = None
    times_min_error: float | None = None
    min_rows: int | None = None
    min_interval: int | None = None

    @property
    def rows_saved(self) -> int:
        """Rows that a run without a buffer would have moved, and this one did not."""
        return self.rows_requested - self.rows_moved

    @property
    def hit_rate(self) -> float:
        """Share of the remote rows found in the buffer, in [0, 1]."""
        return self.rows_hit / self.rows_requested if self.rows_requested else 0.0

    @property
    def seconds_stalled(self) -> float:
        """Seconds that the trainer waited, for a sampled minibatch or for rows."""
        return self.seconds_stalled_sampling + self.seconds_stalled_fetching

    @property
    def seconds_training(self) -> float:
        """Seconds of the user's own work."""
        return max(0.0, self.seconds_wall - self.seconds_stalled - self.seconds_gathering)

    def to_json(self) -> dict[str, Any]:
        """A flat dictionary of plain values: the fields of the schema."""
        values = asdict(self)
        values["plan"] = str(self.plan)
        values["rows_saved"] = self.rows_saved
        values["hit_rate"] = round(self.hit_rate, 6)
        values["seconds_stalled"] = self.seconds_stalled
        values["seconds_training"] = self.seconds_training
        for name in ("requested", "hit", "moved", "saved"):
            values[f"bytes_{name}"] = values[f"rows_{name}"] * self.row_bytes
        return _rounded(values)


def difference(
    earlier: Mapping[str, int | float],
    later: Mapping[str, int | float],
    *,
    tensor: str,
    rank: int,
    interval: int,
    minibatches: int,
    plan: Plan,
    row_bytes: int,
    gap: Gap | None = None,
) -> IntervalMetrics:
    """Metrics of the time between two snapshots; names that a snapshot lacks count as 0."""
    values: dict[str, Any] = {name: later.get(name, 0) - earlier.get(name, 0) for name in GROWING}
    values.update({name: later.get(name, 0) for name in GAUGES})
    if gap is not None:
        values.update(gap.fields())
    return IntervalMetrics(
        tensor=tensor,
        rank=rank,
        interval=interval,
        minibatches=minibatches,
        plan=plan,
        row_bytes=row_bytes,
        **values,
    )


def total(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum of several `to_json` values (tensors or ranks): growing numbers added up, one hit rate and one
    distance to MIN.
    """
    names = [field.name for field in fields(IntervalMetrics) if field.name in GROWING]
    names += ["rows_saved", "seconds_stalled", "seconds_training"]
    names += ["bytes_requested", "bytes_hit", "bytes_moved", "bytes_saved"]
    result: dict[str, Any] = {name: sum(part.get(name, 0) for part in parts) for name in names}
    requested = result["rows_requested"]
    result["hit_rate"] = round(result["rows_hit"] / requested, 6) if requested else 0.0
    result.update(_total_gap(parts))
    return _rounded(result)


def _total_gap(parts: list[dict[str, Any]]) -> dict[str, float | None]:
    """Of buffers side by side, whose errors are independent; those without a figure are left out."""
    known = [part for part in parts if part.get("times_min") is not None]
    rows = sum(part["min_rows"] for part in known)
    if not rows:
        return {"times_min": None, "times_min_error": None, "min_rows": None}
    moved = sum(part["times_min"] * part["min_rows"] for part in known)
    error = sum((part["times_min_error"] * part["min_rows"]) ** 2 for part in known) ** 0.5
    return {"times_min": moved / rows, "times_min_error": error / rows, "min_rows": rows}


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in values.items()}
