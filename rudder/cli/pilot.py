# ruff: noqa: UP045  (typer reads the annotations at run time, also on Python 3.9, which has no "int | None")
"""`rudder pilot`: make the shipped model anew, from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(name="pilot", help="The model that comes with Rudder.", no_args_is_help=True)
    group.callback()(_group)
    group.command(name="train", short_help="Make it from nothing: workloads, labels, training, GGUF.")(train)
    group.command(name="collect", short_help="Label the decisions of real runs, for classifiers.")(collect)
    group.command(name="check", short_help="Compare a GGUF file's answers with labelled decisions.")(check)
    app.add_typer(group, short_help="Make the model that comes with Rudder.")


def _group() -> None:
    """The model that comes with Rudder: make it anew, and see what it answers."""


def train(
    out: Annotated[Path, typer.Option(metavar="FILE.gguf", help="Where the model goes.")],
    seed: Annotated[int, typer.Option(help="Of workloads, weights and order; same seed, same model.")] = 1,
    minutes: Annotated[
        float,
        typer.Option(help="How much work, as minutes of two free cores. Sets counts: no limit."),
    ] = 20.0,
    threads: Annotated[int, typer.Option(help="Of torch, and processes that play workloads.")] = 2,
    work: Annotated[
        Optional[Path],
        typer.Option(metavar="FOLDER", help="Keep what is made on the way, and go on from what is there."),
    ] = None,
    traces: Annotated[
        Optional[list[Path]],
        typer.Option(
            metavar="PATH",
            help="Learn from the first half of recorded accesses, too: .trace, .npz, or folders; repeatable.",
        ),
    ] = None,
    link: Annotated[
        Optional[str],
        typer.Option(metavar="BYTES", help="A second, of recorded runs' link (1GiB). [default: estimated]"),
    ] = None,
    decisions: Annotated[
        Optional[Path], typer.Option(metavar="FILE.tsv", help="Write the labelled decisions here, too.")
    ] = None,
) -> None:
    """Make a pilot: play generated workloads, label each decision by trying plans, train, write a GGUF file.

    With --traces, also of recorded accesses: the first half of each is learned from, the second is held out.
    Needs the extra "pilot". Prints the loss on held-out decisions and the share of answers that are right.
    """
    from rudder.pilot.recipe import Recipe, make
    from rudder.rollout.recorded import Traces

    make(
        Recipe(seed=seed, minutes=minutes, threads=threads, traces=Traces.named(traces, link)),
        out,
        work=work,
        decisions=decisions,
        tell=_tell,
    )


def collect(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs with a shadow.")],
    out: Annotated[Path, typer.Option(metavar="FILE.tsv", help="Where the labelled decisions go.")],
) -> None:
    """Label decisions of real runs by what the shadow says of the interval that followed.

    `controller="classifier:KIND"` with agent_model=FILE.tsv learns from them.
    """
    from rudder.agent.examples import write
    from rudder.pilot.collect import collect as labelled

    found = labelled(runs)
    write(found, out)
    typer.echo(f"{out}: {len(found)} labelled decisions")


def check(
    model: Annotated[Path, typer.Option(metavar="FILE.gguf", help="The model.")],
    examples: Annotated[Path, typer.Option(metavar="FILE.tsv", help="Labelled decisions.")],
) -> None:
    """Ask the model for each decision, and say how often it answers the labelled plan."""
    from rudder.agent.examples import read
    from rudder.pilot.check import answers_right

    asked = read(examples)
    typer.echo(f"{answers_right(model, asked):.1%} of {len(asked)} answers are the labelled plan")


def _tell(words: str) -> None:
    typer.echo(words)
