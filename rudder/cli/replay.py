# ruff: noqa: UP045  (typer reads the annotations at run time, also on Python 3.9, which has no "int | None")
"""`rudder replay`: recorded accesses through every policy, beside the optimum."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from rudder.cli.output import show

if TYPE_CHECKING:
    from rudder.replay.settings import Request

# A policy of the command line alone: compare with an expected.csv.
_EXPECTED = "expected"


def register(app: typer.Typer) -> None:
    """Add the subcommand."""
    app.command(name="replay", short_help="Replay recorded accesses: every policy beside the optimum.")(
        replay
    )


def replay(
    traces: Annotated[list[str], typer.Argument(metavar="TRACE...", help="Trace files, or folders of them.")],
    policy: Annotated[
        str,
        typer.Option(help="Policies, by commas; also min, compulsory, static-oracle; or 'expected' alone."),
    ] = "",
    capacity: Annotated[
        str, typer.Option(help="Buffers: shares of the halo (25%), rows (9000) or memory (64MiB).")
    ] = "",
    window: Annotated[
        str, typer.Option(help="Of lookahead: buffers of rows (4), or minibatches (16b); several.")
    ] = "",
    prior: Annotated[
        str, typer.Option(help="Of lookahead: vip, degree, frequency, none (recency), or an .npy file.")
    ] = "",
    half_life: Annotated[
        Optional[int], typer.Option(help="Of --prior frequency, in minibatches; 0: never.")
    ] = None,
    interval: Annotated[
        Optional[int],
        typer.Option(help="Minibatches between rebuilds (--prior frequency), or replacements (--period 0)."),
    ] = None,
    staged: Annotated[
        Optional[int],
        typer.Option(help="Minibatches for which a row that was fetched, but not kept, serves."),
    ] = None,
    prefill: Annotated[
        Optional[bool],
        typer.Option("--prefill/--no-prefill", help="Of static-* and score: begin with the best rows."),
    ] = None,
    period: Annotated[
        Optional[int],
        typer.Option(help="Of score: minibatches between replacements; 0: one at each --interval."),
    ] = None,
    alpha: Annotated[
        Optional[float], typer.Option(help="Of score: share that an idle row's score loses.")
    ] = None,
    observe: Annotated[
        Optional[int],
        typer.Option(help="Of static-frequency: minibatches to count. By default a tenth of the trace."),
    ] = None,
    bandwidth: Annotated[str, typer.Option(help="Of the link: 10gbit, 1.2GB.")] = "10gbit",
    latency: Annotated[str, typer.Option(help="Of a fetch: 100us, 1ms.")] = "100us",
    compute: Annotated[
        Optional[str], typer.Option(help="Computing of a step: 20ms. By default as recorded.")
    ] = None,
    sampling: Annotated[
        Optional[str], typer.Option(help="Sampling of a minibatch: 5ms. By default as recorded.")
    ] = None,
    depth: Annotated[int, typer.Option(help="Minibatches fetched ahead; 0: stages follow one another.")] = 2,
    row_bytes: Annotated[
        Optional[int], typer.Option(help="Of a row. By default as recorded, else 1536.")
    ] = None,
    request_bytes: Annotated[int, typer.Option(help="Of an id that waits in the window.")] = 24,
    edges: Annotated[
        int, typer.Option(help="Of a waiting minibatch's blocks; 0: blocks are sampled again, only ids wait.")
    ] = 0,
    bytes_per_edge: Annotated[float, typer.Option(help="Of waiting blocks.")] = 4.0,
    equal_memory: Annotated[
        bool, typer.Option("--equal-memory", help="Charge the window's memory to the capacity.")
    ] = False,
    trainers: Annotated[
        bool,
        typer.Option("--trainers", help="The traces are of one host: private buffers against a shared one."),
    ] = False,
    jobs: Annotated[int, typer.Option(help="Files replayed at once; 0: as many as cores.")] = 0,
    plot: Annotated[
        Optional[Path], typer.Option(metavar="FILE.png", help="Draw the outcomes (needs matplotlib).")
    ] = None,
    json_file: Annotated[
        Optional[str],
        typer.Option("--json", metavar="FILE", help="Write all numbers to this file; - for stdout, alone."),
    ] = None,
) -> None:
    """Count the rows that each policy would have moved, relative to no buffer and to the optimum (MIN).

    A recorded run is replayed under its own settings: exactly the rows that it moved. Another policy,
    capacity or window, and any value of the options from --prior to --observe, make it a hypothetical run,
    with the run's own settings for the rest. For other traces the defaults are --policy lookahead,lru
    --capacity 5%,10%,25%,50% --window 4. Time per step is max(compute, sampling, fetch) of mean values, their
    sum with --depth 0. --policy expected replays every row of the expected.csv beside the traces, and ends
    with 1 where one differs.
    """
    from rudder.errors import ConfigError
    from rudder.replay.cost import Costs, parse_bandwidth, parse_seconds
    from rudder.replay.load import find_traces
    from rudder.replay.settings import Request, Window, split

    if json_file not in (None, "-") and not Path(str(json_file)).absolute().parent.is_dir():
        raise ConfigError(f"--json {json_file}: there is no such folder")  # before minutes of work
    paths = find_traces(traces)
    if policy.strip() == _EXPECTED:
        _expected(paths, jobs, json_file)
        return
    if jobs < 0:
        raise ConfigError(f"--jobs {jobs}: it cannot be negative")
    asked = {"prefill": prefill, "period": period, "alpha": alpha, "observe": observe}
    request = Request(
        policies=split(policy, "--policy") if policy else (),
        capacities=split(capacity, "--capacity") if capacity else (),
        windows=tuple(Window.parse(text) for text in split(window, "--window")) if window else (),
        prior=prior,
        half_life=half_life,
        interval=interval,
        staged=staged,
        policy_settings={name: value for name, value in asked.items() if value is not None},
        equal_memory=equal_memory,
        costs=Costs(
            bandwidth=parse_bandwidth(bandwidth),
            latency=parse_seconds(latency, "--latency"),
            compute=None if compute is None else parse_seconds(compute, "--compute"),
            sampling=None if sampling is None else parse_seconds(sampling, "--sampling"),
            depth=depth,
            row_bytes=row_bytes,
            request_bytes=request_bytes,
            edges=edges,
            edge_bytes=bytes_per_edge,
        ),
    )
    _replay(paths, request, trainers=trainers, jobs=jobs, plot=plot, json_file=json_file)


def _replay(
    paths: list[Path],
    request: Request,
    *,
    trainers: bool,
    jobs: int,
    plot: Path | None,
    json_file: str | None,
) -> None:
    from rudder.pictures import check
    from rudder.replay import table
    from rudder.replay.load import load_case
    from rudder.replay.plot import draw
    from rudder.replay.run import replay_files
    from rudder.replay.trainers import replay_trainers

    if plot is not None:
        check(plot)  # before minutes of work
    if trainers:
        outcomes = replay_trainers([load_case(path) for path in paths], request)
    else:
        outcomes = replay_files(paths, request, jobs)
    for trace in dict.fromkeys(outcome.trace for outcome in outcomes if outcome.truncated):
        typer.echo(f"rudder: {trace} ends in the middle of a record: replayed up to there", err=True)
    if plot is not None:
        draw(outcomes, plot)
    tables = [table.of_outcomes(outcomes)]
    if len(outcomes) > 2:
        tables.append(table.of_summary(outcomes))
    show([outcome.as_json() for outcome in outcomes], tables, json_file)


def _expected(paths: list[Path], jobs: int, json_file: str | None) -> None:
    from rudder.replay import table
    from rudder.replay.expected import compare_files

    found, left = compare_files(paths, jobs)
    show([each.as_json() for each in found], [table.of_comparisons(found)], json_file)
    differing = sum(not each.within for each in found)
    typer.echo(f"{len(found)} rows replayed, {differing} differ by more than allowed", err=True)
    if left:
        names = ", ".join(sorted({row.policy for row in left}))
        typer.echo(f"{len(left)} rows not replayed: there is no such mode ({names})", err=True)
    if differing:
        raise typer.Exit(1)
