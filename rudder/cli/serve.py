# ruff: noqa: UP045  (typer reads the annotations at run time, also on Python 3.9, which has no "int | None")
"""`rudder serve`: the feature server of one host, where `rudder launch` does not start it."""

from __future__ import annotations

import logging
from typing import Annotated, Optional

import typer

from rudder.serve.process import ServeSettings
from rudder.serve.process import serve as serve_rows


def register(app: typer.Typer) -> None:
    """Add the subcommand."""
    app.command(name="serve", short_help="Serve a partition's features over UCX to the job's trainers.")(
        serve
    )


def serve(
    partition: Annotated[
        int, typer.Option(help="Number of the partition that this host's DGL server holds.")
    ],
    address: Annotated[str, typer.Option(help="This host's address in the job's network.")],
    port: Annotated[int, typer.Option(help="Port of the door; 0: any free one.")] = 0,
    address_file: Annotated[
        Optional[str], typer.Option(metavar="FILE", help="Write host:port there once it serves.")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads that gather rows.")] = ServeSettings.threads,
    staging: Annotated[
        Optional[str], typer.Option(metavar="SIZE", help="Memory of rows that wait to be sent, e.g. 64MiB.")
    ] = None,
) -> None:
    """Serve the features of one partition, straight from the DGL server's shared memory, until SIGTERM.

    The job's secret comes from RUDDER_SECRET, or from the file of mode 0600 that RUDDER_SECRET_FILE names.
    Trainers find the servers by RUDDER_FEATURE_SERVERS: host:port,... in the order of partitions, or a
    folder in which the address file of partition 0 is named 0, and so on. `rudder launch` does all of this
    by itself.
    """
    logging.basicConfig(level=logging.WARNING, format="rudder: %(message)s")
    serve_rows(
        ServeSettings(
            partition=partition,
            address=address,
            port=port,
            address_file=address_file,
            threads=threads,
            staging=staging,
        )
    )
