# ruff: noqa: UP045  (typer reads the annotations at run time, also on Python 3.9, which has no "int | None")
"""`rudder launch`: starts a DistDGL job and shows what its processes write."""

from __future__ import annotations

import sys
from typing import Annotated, Optional

import typer

from rudder.errors import ConfigError
from rudder.launch.events import Line
from rudder.launch.job import JobResult, StopRequest
from rudder.launch.place import Place
from rudder.launch.plan import Job
from rudder.launch.start import DEFAULT_MASTER_PORT


def register(app: typer.Typer) -> None:
    """Add the subcommand."""
    app.command(
        name="launch",
        context_settings={"allow_interspersed_args": False},
        short_help="Start a DistDGL job: on this machine, over ssh, or inside a SLURM allocation.",
    )(launch)


def launch(
    command: Annotated[list[str], typer.Argument(metavar="-- SCRIPT [ARGS]...", help="The training script.")],
    part_config: Annotated[str, typer.Option(help="DGL partition file (JSON).")],
    local: Annotated[
        Optional[int], typer.Option(metavar="HOSTS", help="Run that many hosts on this machine.")
    ] = None,
    ip_config: Annotated[Optional[str], typer.Option(help="Run over ssh on the hosts of this file.")] = None,
    trainers: Annotated[int, typer.Option(help="Trainers per host.")] = 1,
    samplers: Annotated[int, typer.Option(help="Sampler processes per trainer.")] = 0,
    servers: Annotated[int, typer.Option(help="DGL servers per host; 0 for a script without any.")] = 1,
    port: Annotated[Optional[int], typer.Option(help="First port of each host's servers.")] = None,
    master_port: Annotated[
        int, typer.Option(help="Port of torch.distributed on the first host.")
    ] = DEFAULT_MASTER_PORT,
    graph_format: Annotated[str, typer.Option(help="Sparse formats that the servers keep.")] = "csc",
    feature_servers: Annotated[
        bool, typer.Option("--feature-servers/--no-feature-servers", help="One per host, where UCX is.")
    ] = True,
    feature_threads: Annotated[
        int, typer.Option(help="Threads that gather rows in each feature server.")
    ] = Job.feature_threads,
    netns: Annotated[
        bool, typer.Option("--netns", help="With --local: a network namespace per host (root).")
    ] = False,
    rate: Annotated[
        Optional[str], typer.Option(help="With --local: shape each link, e.g. 1gbit (root).")
    ] = None,
    env: Annotated[Optional[list[str]], typer.Option(metavar="KEY=VALUE", help="For every process.")] = None,
    ssh: Annotated[str, typer.Option(help="The ssh command, with options.")] = "ssh",
    python: Annotated[str, typer.Option(help="Python on the other machines.")] = "python3",
    controller: Annotated[
        Optional[str], typer.Option(help="default, rule, agent ..., for scripts that name none.")
    ] = None,
    agent_model: Annotated[
        Optional[str], typer.Option(help="The agent's GGUF file, or the address of a model server.")
    ] = None,
    agent_context: Annotated[
        Optional[int], typer.Option(help="Tokens that the agent's model gets room for (4096).")
    ] = None,
    agent_threads: Annotated[
        Optional[int], typer.Option(help="Cores that the agent's model may compute on (1).")
    ] = None,
    share_memory: Annotated[
        bool, typer.Option("--share-memory", help="Let trainers of a host trade memory of their buffers.")
    ] = False,
    out: Annotated[Optional[str], typer.Option(help="The run's folder, for metrics.")] = None,
    record: Annotated[
        Optional[str], typer.Option(help="Record the trainers' accesses into this folder.")
    ] = None,
) -> None:
    """Start servers, feature servers (where UCX is), samplers and trainers of a DistDGL job; every line they
    write comes with its process's name.

    The script runs unmodified in every process. In its arguments, {ip_config}, {part_config} and {out}
    stand for paths of the job. Without --local and --ip-config, the job runs on the nodes of the SLURM
    allocation. The exit code is the first failing process's, and nothing is left running.
    """
    job = Job(
        script=command[0],
        args=command[1:],
        part_config=part_config,
        trainers=trainers,
        samplers=samplers,
        servers=servers,
        graph_format=graph_format,
        feature_servers=feature_servers,
        feature_threads=feature_threads,
        controller=controller or "",
        agent_model=agent_model or "",
        agent_context=agent_context,
        agent_threads=agent_threads,
        share_memory=share_memory,
        env=_parse_env(env or []),
        out=out,
        record=record,
    )
    place = Place(
        local=local,
        ip_config=ip_config,
        port=port,
        master_port=master_port,
        ssh=ssh,
        python=python,
        netns=netns,
        rate=rate,
    )
    stop = StopRequest()
    stop.on_signals()
    result = place.run(job, _show, stop)
    _report(result)
    raise typer.Exit(result.exit_code)


def _parse_env(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise ConfigError(f"--env wants KEY=VALUE, got {pair!r}")
    return dict(pair.split("=", 1) for pair in pairs)


def _show(line: Line) -> None:
    stream = sys.stderr if line.stream == "stderr" else sys.stdout
    print(f"[{line.process}] {line.text}", file=stream, flush=True)


def _report(result: JobResult) -> None:
    if not result.ok:
        print(f"rudder: {result.reason}", file=sys.stderr, flush=True)
