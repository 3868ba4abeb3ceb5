"""What a command found: JSON for programs, tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table


def show(
    found: list[dict[str, Any]] | dict[str, Any],
    tables: Sequence[Table],
    json_file: str | None,
    notes: Sequence[str] = (),
) -> None:
    """Print tables and the notes below them, and write ``found`` to a file; "-" is stdout, alone."""
    text = json.dumps(found, indent=2) + "\n"
    if json_file == "-":
        typer.echo(text, nl=False)
        return
    if json_file is not None:
        Path(json_file).write_text(text, encoding="utf-8")
    from rich.console import Console

    # Into a file or a pipe, whole lines.
    console = Console(width=None if sys.stdout.isatty() else 200)
    for number, table in enumerate(tables):
        if number:
            console.print()
        console.print(table)
    for note in notes:
        console.print(f"- {note}", style="dim", highlight=False, markup=False)
