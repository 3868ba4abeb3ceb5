"""What `rudder bench agent` found, as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rudder.bench.agent_result import AgentReport, Interval

if TYPE_CHECKING:
    from rich.table import Table


def of_controllers(report: AgentReport) -> Table:
    """One line for each controller, over all workloads."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("controller", no_wrap=True)
    headings = ("mean gain over default", "over rule", "over shadow", "median over default")
    for heading in (*headings, "of the oracle's gain", "regret to oracle", "worst gain"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in report.standings():
        table.add_row(
            each.controller,
            *map(_share, (each.over_default, each.over_rule, each.over_shadow, each.median)),
            *map(_share, (each.of_oracle, each.regret)),
            f"{each.worst:+.2%}",
        )
    return table


def of_workloads(report: AgentReport) -> Table:
    """Milliseconds a step: one line for each workload, one column for each controller."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("modelled ms a step", no_wrap=True)
    for controller in report.controllers():
        table.add_column(controller, justify="right", no_wrap=True)
    names = report.workloads()
    times = report.milliseconds(names)
    for row, name in enumerate(names):
        table.add_row(name, *(f"{times[controller][row]:.2f}" for controller in report.controllers()))
    return table


def _share(value: Interval | None) -> str:
    if value is None:
        return "-"
    return f"{value.middle:+.1%} ({value.low:+.1%}, {value.high:+.1%})"
