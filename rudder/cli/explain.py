# ruff: noqa: UP045  (typer reads the annotations at run time, also on Python 3.9, which has no "int | None")
"""`rudder explain`: what a run's controllers decided, on what evidence, and what came of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer


def register(app: typer.Typer) -> None:
    """Add the subcommand."""
    app.command(name="explain", short_help="What a run's controller decided: evidence, plan, effect.")(
        explain
    )


def explain(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder (`rudder launch --out`).")],
    tensor: Annotated[Optional[str], typer.Option(help="Only this tensor.")] = None,
    rank: Annotated[Optional[int], typer.Option(min=0, help="Only this trainer.")] = None,
    last: Annotated[
        Optional[int], typer.Option(min=1, help="Only so many decisions of each tensor and trainer.")
    ] = None,
    json_file: Annotated[
        Optional[str],
        typer.Option("--json", metavar="FILE", help="Write all of it to this file; - for stdout, alone."),
    ] = None,
) -> None:
    """Show each decision: the evidence, the lines that a model reads, what the shadow modelled under
    other plans, the plan before and after, what the next interval measured, and what deciding cost.

    docs/steering.md explains signals, plans and outcomes.
    """
    from rudder.explain import as_line, as_text, read, totals

    decisions = read(run, tensor=tensor, rank=rank, last=last)
    summed = totals(decisions)
    found = {"totals": summed, "decisions": decisions}
    if json_file is not None:
        text = json.dumps(found, indent=1) + "\n"
        if json_file == "-":
            typer.echo(text, nl=False)
            return
        Path(json_file).write_text(text, encoding="utf-8")
    for decision in decisions:
        typer.echo("\n".join(as_text(decision)) + "\n")
    typer.echo(as_line(summed))
