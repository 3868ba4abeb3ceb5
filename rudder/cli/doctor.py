"""`rudder doctor`: what this machine offers, what is missing, and how to get it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

    from rudder.doctor import Check

# Colour of each status, for terminals.
STYLES = {"ok": "green", "limited": "yellow", "absent": "dim", "failed": "bold red"}


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    import typer

    @app.command()
    def doctor(as_json: bool = typer.Option(False, "--json", help="Print one JSON object.")) -> None:
        """Say what this machine offers, what is missing, how to get it; exit code 1 if Rudder cannot run."""
        from rudder import __version__
        from rudder.doctor import Status, examine

        checks = examine()
        able = all(check.status is not Status.FAILED for check in checks)
        if as_json:
            report = {
                "rudder": __version__,
                "python": sys.version.split()[0],
                "ok": able,
                "checks": [check.as_json() for check in checks],
            }
            typer.echo(json.dumps(report, indent=2))
        else:
            _print_table(checks, able)
        raise typer.Exit(0 if able else 1)


def _print_table(checks: list[Check], able: bool) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("part", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("found", overflow="fold")
    for check in checks:
        style = STYLES[check.status.value]
        found = escape(check.found) + (f"\n[italic]-> {escape(check.advice)}[/]" if check.advice else "")
        table.add_row(check.name, f"[{style}]{check.status.value}[/]", found)
    console = Console()
    console.print(table)
    console.print("\nRudder can run here." if able else "\nRudder cannot run here: see what failed.")
