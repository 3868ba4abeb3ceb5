"""The `rudder` command. One module per subcommand; each has `register(app)` and is imported only when it is
asked for."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

# In the order of the help text. A module that is not installed is not offered; nothing else needs to know
# the list.
SUBCOMMANDS = (
    "demo",
    "launch",
    "serve",
    "partition",
    "prior",
    "replay",
    "bench",
    "doctor",
    "report",
    "explain",
    "pilot",
)


def build_app(argv: Sequence[str]) -> typer.Typer:
    """The typer app for a command line: only the subcommand that it names is imported, or all of them for
    the help text."""
    import typer

    app = typer.Typer(
        name="rudder",
        help="Prefetches the remote node features of distributed GNN training by sampling ahead.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    available = [name for name in SUBCOMMANDS if importlib.util.find_spec(f"{__name__}.{name}") is not None]
    asked = [name for name in available if argv and argv[0] == name]
    for name in asked or available:
        importlib.import_module(f"{__name__}.{name}").register(app)
    return app


def _root() -> None:
    """Keeps subcommands named even while there is only one."""


def main() -> None:
    """Entry point of the `rudder` script. Errors of Rudder's own are one line; everything else keeps its
    traceback."""
    try:
        app = build_app(sys.argv[1:])
    except ImportError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit(f"rudder: the command line needs {error.name}: pip install 'rudder-gnn[cli]'")
    from rudder.errors import RudderError

    try:
        app()
    except RudderError as error:
        sys.exit(f"rudder: {error}")


if __name__ == "__main__":
    main()
