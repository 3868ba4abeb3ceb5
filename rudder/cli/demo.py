# ruff: noqa: UP045  (typer reads the annotations at run time, also on Python 3.9, which has no "int | None")
"""`rudder demo`: a DistDGL job without and with Rudder, side by side."""

from __future__ import annotations

import contextlib
import functools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from rudder.demo.settings import DemoSettings, parse_capacity, parse_fanout
from rudder.errors import LaunchError
from rudder.launch.job import StopRequest

if TYPE_CHECKING:
    from rudder.demo.job import Run
    from rudder.demo.parts import Parts

_DEFAULTS = DemoSettings()


def register(app: typer.Typer) -> None:
    """Add the subcommand."""
    app.command(name="demo", short_help="Train with DistDGL, without and with Rudder, side by side.")(demo)


def demo(
    graph: Annotated[
        Optional[Path], typer.Option(metavar="FILE.npz", help="Train on this graph; by default one is made.")
    ] = None,
    nodes: Annotated[int, typer.Option(help="Nodes of the graph that is made.")] = _DEFAULTS.nodes,
    feature_dim: Annotated[
        int, typer.Option(help="Width of features, where the graph has none.")
    ] = _DEFAULTS.feature_dim,
    hosts: Annotated[int, typer.Option(help="Hosts that this machine plays.")] = _DEFAULTS.hosts,
    trainers: Annotated[int, typer.Option(help="Trainers per host.")] = _DEFAULTS.trainers,
    capacity: Annotated[
        str, typer.Option(help="Rows of a buffer: share of the halo (0.25), rows (9000), or memory (64MiB).")
    ] = str(_DEFAULTS.capacity),
    epochs: Annotated[int, typer.Option(help="Epochs of each run.")] = _DEFAULTS.epochs,
    fanout: Annotated[str, typer.Option(help="Neighbours per hop.")] = ",".join(map(str, _DEFAULTS.fanout)),
    batch_size: Annotated[int, typer.Option(help="Seeds per minibatch of a trainer.")] = _DEFAULTS.batch_size,
    policy: Annotated[str, typer.Option(help="Replacement policy.")] = _DEFAULTS.policy,
    controller: Annotated[
        Optional[str],
        typer.Option(help="agent, shadow, rule, default ...; by default the agent, where it can run."),
    ] = _DEFAULTS.controller,
    agent_model: Annotated[
        Optional[str], typer.Option(help="The agent's GGUF file, or the address of a model server.")
    ] = _DEFAULTS.agent_model,
    agent_context: Annotated[
        Optional[int], typer.Option(help="Tokens that the agent's model gets room for (4096).")
    ] = _DEFAULTS.agent_context,
    agent_threads: Annotated[
        Optional[int], typer.Option(help="Cores that the agent's model may compute on (1).")
    ] = _DEFAULTS.agent_threads,
    share_memory: Annotated[
        bool, typer.Option("--share-memory", help="Let trainers of a host trade memory of their buffers.")
    ] = _DEFAULTS.share_memory,
    transport: Annotated[
        Optional[str], typer.Option(help="shm, ucx, kvstore, or several (ucx,kvstore); by default measured.")
    ] = _DEFAULTS.transport,
    window: Annotated[
        Optional[float], typer.Option(help="Buffers of remote requests to sample ahead.")
    ] = _DEFAULTS.window,
    depth: Annotated[Optional[int], typer.Option(help="Minibatches fetched ahead.")] = _DEFAULTS.depth,
    seed: Annotated[int, typer.Option(help="Of graph, model and sampling, in both runs.")] = _DEFAULTS.seed,
    rate: Annotated[
        Optional[str], typer.Option(help="Give each host a link of this rate, e.g. 1gbit (root).")
    ] = _DEFAULTS.rate,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare every batch with the stock pull, bit for bit.")
    ] = _DEFAULTS.verify,
    json_file: Annotated[
        Optional[str],
        typer.Option("--json", metavar="FILE", help="Write all numbers to this file; - for stdout, alone."),
    ] = None,
    out: Annotated[
        Optional[Path], typer.Option(metavar="DIR", help="Keep logs and metrics of both runs here.")
    ] = None,
    record: Annotated[
        Optional[Path], typer.Option(metavar="DIR", help="Record the accesses of the run with Rudder here.")
    ] = None,
) -> None:
    """Train GraphSAGE by real DistDGL servers and trainers, once stock and once with Rudder.

    Both runs have the same partitions, seeds and minibatches. Partitions are kept in a cache folder, so the
    next run with the same graph is quicker. Ends with 1 where rows differ or a process failed.
    """
    from rudder.demo import job, report

    settings = DemoSettings(
        graph=graph,
        nodes=nodes,
        feature_dim=feature_dim,
        hosts=hosts,
        trainers=trainers,
        capacity=parse_capacity(capacity),
        epochs=epochs,
        fanout=parse_fanout(fanout),
        batch_size=batch_size,
        policy=policy,
        controller=controller,
        agent_model=agent_model,
        agent_context=agent_context,
        agent_threads=agent_threads,
        share_memory=share_memory,
        transport=transport,
        window=window,
        depth=depth,
        seed=seed,
        rate=rate,
        verify=verify,
        record=record,
    )
    job.check(settings)
    with _folder(out) as folder:
        parts, stock, rudder = _run(settings, folder)
        found = report.as_json(settings, parts, stock, rudder)
        text = json.dumps(found, indent=2) + "\n"
        (folder / "demo.json").write_text(text, encoding="utf-8")
    if json_file == "-":
        typer.echo(text, nl=False)
    else:
        if json_file is not None:
            Path(json_file).write_text(text, encoding="utf-8")
        _show(found)
    faults = report.faults(found)
    for fault in faults:
        typer.echo(f"rudder: {fault}", err=True)
    if faults:
        raise typer.Exit(1)


def _run(settings: DemoSettings, folder: Path) -> tuple[Parts, Run, Run]:
    from rudder.demo import job
    from rudder.demo.parts import prepare
    from rudder.demo.screen import Screen

    stop = StopRequest()
    runs = []
    with Screen() as screen:
        parts = prepare(settings, screen.stage)
        screen.partitions_ready("from the cache" if parts.cached else f"made in {parts.seconds:.0f} s")
        stop.on_signals()
        for variant in job.VARIANTS:
            screen.begin(variant)
            try:
                runs.append(
                    job.run(
                        settings,
                        parts,
                        variant,
                        folder,
                        on_news=functools.partial(screen.news, variant),
                        stop=stop,
                    )
                )
            except LaunchError:
                if stop.signals:
                    raise typer.Exit(128 + stop.signals[0]) from None
                raise
            screen.end(variant)
    return parts, runs[0], runs[1]


def _show(found: dict[str, object]) -> None:
    from rich.console import Console

    from rudder.demo import report

    console = Console()
    console.print()
    console.print(report.as_table(found))
    console.print()
    for note in report.notes(found):
        console.print(note, style="dim", highlight=False)


@contextlib.contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    """The folder of the runs: the user's, or one that is removed afterwards."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="rudder-demo-") as folder:
        yield Path(folder)
