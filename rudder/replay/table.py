"""Outcomes as tables for the terminal."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rudder.replay.expected import Comparison
from rudder.replay.outcome import Outcome

if TYPE_CHECKING:
    from rich.table import Table


def _table(*headings: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in headings:
        text = heading in ("trace", "policy")
        table.add_column(heading, justify="left" if text else "right", no_wrap=True)
    return table


def of_outcomes(outcomes: Sequence[Outcome]) -> Table:
    """One line for each outcome."""
    shares = any(outcome.sharing for outcome in outcomes)
    staged = any(outcome.rows_staged for outcome in outcomes)
    table = _table(
        "trace",
        "capacity",
        "policy",
        "window",
        *(("buffers",) if shares else ()),
        "rows moved",
        "/ none",
        "x MIN",
        "hits",
        *(("staged",) if staged else ()),
        "ms/step",
        "ids",
        "blocks",
    )
    trace = ""
    for outcome in outcomes:
        table.add_row(
            "" if outcome.trace == trace else outcome.trace,
            _capacity(outcome),
            f"{outcome.policy} (live)" if outcome.live else outcome.policy,
            "" if outcome.window is None else str(outcome.window),
            *((outcome.sharing or "",) if shares else ()),
            f"{outcome.rows_moved:,}",
            _ratio(outcome.times_none),
            _ratio(outcome.times_min),
            f"{outcome.hit_rate:.1%}",
            *((f"{outcome.rows_staged:,}",) if staged else ()),
            f"{outcome.seconds_per_step * 1e3:.3f}",
            _bytes(outcome.memory.id_bytes),
            _bytes(outcome.memory.block_bytes),
        )
        trace = outcome.trace
    return table


def of_summary(outcomes: Sequence[Outcome]) -> Table:
    """x MIN over all traces and capacities, for each policy and window: median and worst."""
    groups: dict[tuple[str, str, str], list[float]] = {}
    for outcome in outcomes:
        if outcome.times_min is not None:
            window = "" if outcome.window is None else str(outcome.window)
            groups.setdefault((outcome.policy, window, outcome.sharing or ""), []).append(outcome.times_min)
    table = _table("policy", "window", "buffers", "settings", "median x MIN", "worst")
    for (policy, window, sharing), found in groups.items():
        table.add_row(
            policy, window, sharing, str(len(found)), _ratio(statistics.median(found)), _ratio(max(found))
        )
    return table


def of_comparisons(comparisons: Sequence[Comparison]) -> Table:
    """One line for each row of an expected.csv."""
    table = _table("trace", "capacity", "policy", "rows moved", "expected", "difference", "allowed", "")
    trace = ""
    for found in comparisons:
        row = found.row
        table.add_row(
            "" if row.trace == trace else row.trace,
            f"{row.capacity_rows:,}",
            row.policy,
            f"{found.moved:,}",
            f"{row.rows_moved:,}",
            f"{found.difference:+.3%}" if found.difference else "0",
            f"{row.tolerance:.1%}" if row.tolerance else "0",
            "" if found.within else "DIFFERS",
        )
        trace = row.trace
    return table


def _capacity(outcome: Outcome) -> str:
    rows = f"{outcome.capacity_rows:,}"
    if outcome.buffer_rows != outcome.capacity_rows:
        rows = f"{outcome.buffer_rows:,} of {rows}"
    share = outcome.capacity_fraction
    return rows if share is None else f"{rows} ({share:.3g})"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _bytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count else "-"
