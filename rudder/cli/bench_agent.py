# ruff: noqa: UP045  (typer reads the annotations at run time, also on Python 3.9, which has no "int | None")
"""`rudder bench agent`: how well controllers decide, how fast a model does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from rudder.cli.output import show


def agent(
    model: Annotated[
        Optional[str],
        typer.Option(metavar="FILE|ADDRESS", help="A GGUF file, or the address of a server."),
    ] = None,
    controllers: Annotated[
        Optional[str],
        typer.Option(
            help="Besides default and oracle, separated by commas. [default: rule,shadow,classifier:forest]"
        ),
    ] = None,
    workloads: Annotated[
        str,
        typer.Option(help="steady,phases,sliding,fanout,bandwidth,memory; drifting: all but steady."),
    ] = "drifting",
    traces: Annotated[
        Optional[list[Path]],
        typer.Option(
            metavar="PATH",
            help="Recorded accesses, not generated ones: .trace, .npz, or folders of them; repeatable.",
        ),
    ] = None,
    link: Annotated[
        Optional[str],
        typer.Option(metavar="BYTES", help="A second, of recorded runs' link (1GiB). [default: estimated]"),
    ] = None,
    each: Annotated[int, typer.Option(help="Workloads of each kind.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the workloads.")] = 1,
    guard: Annotated[bool, typer.Option(help="Behind every controller, as in a live run.")] = True,
    paper: Annotated[
        bool, typer.Option("--paper", help="The paper's mode: policy score, yes or no to replacement.")
    ] = False,
    measured: Annotated[
        bool, typer.Option("--measured", help="In real time, over shaped links between namespaces (root).")
    ] = False,
    at_once: Annotated[
        int, typer.Option(help="With --measured: workloads beside one another; they mostly sleep.")
    ] = 1,
    length: Annotated[int, typer.Option(help="With --measured: minibatches of a workload.")] = 512,
    step_ms: Annotated[float, typer.Option(help="Of the job to steer: is the model fast enough?")] = 100.0,
    interval: Annotated[int, typer.Option(help="Minibatches of an interval.")] = 32,
    intervals: Annotated[
        int, typer.Option(help="Length of a generated workload, in intervals of 32 minibatches.")
    ] = 16,
    json_file: Annotated[
        Optional[str],
        typer.Option("--json", metavar="FILE", help="Write all numbers to this file; - for stdout, alone."),
    ] = None,
) -> None:
    """Play held-out workloads under each controller, by modelled time, and measure the model's decisions.

    Workloads come from a simulator of training jobs that drift. Nothing was learned from these: their seeds,
    graphs and costs are others than those of `rudder pilot train`. Without --model, controllers alone.

    With --traces, the second half of each, at the costs that were recorded; where none were, they are drawn
    and drift as --workloads says (steady, bandwidth, memory).

    With --measured, in real time: trainer and peer are processes, sampling and training sleep as long as the
    workload says, and rows come over a link that the kernel shapes; the memory does not drift then.
    """
    from rudder.bench import agent_table
    from rudder.bench.agent import CONTROLLERS, AgentSettings, run
    from rudder.errors import ConfigError
    from rudder.rollout.recorded import Traces

    settings = AgentSettings(
        model=model,
        controllers=tuple(controllers.split(",")) if controllers else CONTROLLERS,
        kinds=_kinds(workloads, measured),
        each=each,
        seed=seed,
        guard=guard,
        step_ms=step_ms,
        interval=interval,
        intervals=intervals,
        traces=Traces.named(traces, link),
    )
    if paper and measured:
        raise ConfigError("--paper and --measured exclude one another")
    if measured:
        from rudder.bench import measured as real_time

        found = real_time.run(settings, at_once=at_once, length=length, tell=_tell)
        show([each.as_json() for each in found], [real_time.table(found)], json_file)
        return
    if paper:
        from rudder.bench import paper as papers_mode

        outcomes = papers_mode.run(settings, _tell)
        show(papers_mode.as_json(outcomes), [papers_mode.table(outcomes)], json_file)
        return
    report = run(settings, _tell)
    notes = list(report.notes)
    if report.model is not None:
        ms = report.decision_ms
        notes[:0] = [
            f"{report.model}: loaded in {report.load_seconds:.2f} s",
            f"{report.decisions} decisions, p50 {ms['p50']:.1f} ms, p99 {ms['p99']:.1f} ms;"
            f" {report.valid_share:.1%} of the plans valid",
        ]
    tables = [agent_table.of_controllers(report), agent_table.of_workloads(report)]
    show(report.as_json(), tables, json_file, notes)


def _kinds(workloads: str, measured: bool) -> tuple[str, ...]:
    from rudder.bench.measured import KINDS
    from rudder.rollout.generate import DRIFTING

    if workloads != "drifting":
        return tuple(workloads.split(","))
    return tuple(kind for kind in DRIFTING if not measured or kind in KINDS)


def _tell(words: str) -> None:
    if sys.stderr.isatty():
        typer.echo(f"{words} ...", err=True)
