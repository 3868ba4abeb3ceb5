# ruff: noqa: UP045  (typer reads the annotations at run time, also on Python 3.9, which has no "int | None")
"""`rudder prior`: the VIP prior of partitions that exist, each machine holding its own alone."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated, Any, Optional

import typer

from rudder.cli.output import show
from rudder.cli.parts import FANOUT_HELP, parse_fanouts, parts_table
from rudder.errors import LaunchError
from rudder.launch.events import Line
from rudder.launch.job import StopRequest
from rudder.launch.place import Place
from rudder.launch.plan import read_num_parts
from rudder.launch.start import DEFAULT_MASTER_PORT
from rudder.partition import PartReport, TrainedWith
from rudder.partition.job import REPORT, prior_job


def register(app: typer.Typer) -> None:
    """Add the subcommand."""
    app.command(
        name="prior", short_help="Compute the VIP prior of partitions that exist, a process for each."
    )(prior)


def prior(
    part_config: Annotated[str, typer.Argument(help="DGL partition file (JSON).")],
    fanout: Annotated[str, typer.Option(help=FANOUT_HELP)] = "10,25",
    batch_size: Annotated[int, typer.Option(help="Seeds per minibatch of a trainer.")] = 1000,
    trainers: Annotated[int, typer.Option(help="Trainers per host.")] = 1,
    local: Annotated[bool, typer.Option("--local", help="Run all processes on this machine.")] = False,
    ip_config: Annotated[Optional[str], typer.Option(help="Run over ssh on the hosts of this file.")] = None,
    master_port: Annotated[
        int, typer.Option(help="Port of torch.distributed on the first host.")
    ] = DEFAULT_MASTER_PORT,
    ssh: Annotated[str, typer.Option(help="The ssh command, with options.")] = "ssh",
    python: Annotated[str, typer.Option(help="Python on the other machines.")] = "python3",
    json_file: Annotated[
        Optional[str], typer.Option("--json", metavar="FILE", help="Write the report; - for stdout, alone.")
    ] = None,
) -> None:
    """Compute what `rudder partition` stores beside each partition, anew or for partitions that others made.

    A process for each partition reads that one and exchanges numbers of its halo with the others, so no
    machine holds the whole graph. Without --local and --ip-config they run on the nodes of the SLURM
    allocation. Train nodes are those of `train_mask`.
    """
    trained_with = TrainedWith(parse_fanouts(fanout), batch_size, trainers)
    place = Place(
        local=read_num_parts(part_config) if local else None,
        ip_config=ip_config,
        master_port=master_port,
        ssh=ssh,
        python=python,
    )
    found: list[dict[str, Any]] = []

    def on_line(line: Line) -> None:
        if line.stream == "stdout" and line.text.startswith(REPORT):
            found.append(json.loads(line.text[len(REPORT) :]))
        else:
            print(f"[{line.process}] {line.text}", file=sys.stderr, flush=True)

    stop = StopRequest()
    stop.on_signals()
    result = place.run(prior_job(part_config, trained_with), on_line, stop)
    if stop.signals:
        raise typer.Exit(128 + stop.signals[0])
    result.raise_for_failure()
    reports = [PartReport(**report) for report in sorted(found, key=lambda report: int(report["part"]))]
    if len(reports) != read_num_parts(part_config):
        raise LaunchError(f"only {len(reports)} partitions reported their prior")
    show([asdict(report) for report in reports], [parts_table(reports)], json_file)
