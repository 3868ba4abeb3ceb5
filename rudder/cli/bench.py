# ruff: noqa: UP045  (typer reads the annotations at run time, also on Python 3.9, which has no "int | None")
"""`rudder bench`: microbenchmarks that users run on a new cluster."""

from __future__ import annotations

import contextlib
import signal
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from rudder.cli.bench_agent import agent
from rudder.cli.output import show

# --quick: one batch and one small request, long enough to see that everything works.
_QUICK_ROWS, _QUICK_SECONDS, _QUICK_REPEATS = (1000, 20_000), 0.2, 3
_DEFAULT_PORT = 18550


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        name="bench",
        help="Measure this machine or cluster; every answer is checked.",
        no_args_is_help=True,
    )
    group.callback()(_group)
    group.command(name="fetch", short_help="Latency and throughput of fetching rows, by every transport.")(
        fetch
    )
    group.command(name="gpu", short_help="Gathering rows into GPU memory, from every kind of memory.")(gpu)
    group.command(name="agent", short_help="How well controllers decide, and how fast a model does.")(agent)
    app.add_typer(group, short_help="Measure how fast rows are fetched, and how well controllers decide.")


def _group() -> None:
    """Measure this machine or cluster; every answer is checked."""


def fetch(
    row_bytes: Annotated[str, typer.Option(help="Sizes of a row: 512,4KiB.")] = "512,4KiB",
    rows: Annotated[Optional[str], typer.Option(help="Rows of a request. [default: 1000,20000]")] = None,
    in_flight: Annotated[
        Optional[str], typer.Option(help="Requests under way at once. [default: 1,4; 1 with --quick]")
    ] = None,
    peers: Annotated[
        Optional[str], typer.Option(help="Peers that a request goes to. [default: 1; all with --connect]")
    ] = None,
    transport: Annotated[
        str, typer.Option(help="shm, ucx, kvstore, separated by commas; by default all that can run.")
    ] = "",
    dgl: Annotated[bool, typer.Option(help="Compare with DistDGL's own pull, where DGL is.")] = True,
    clients: Annotated[
        int, typer.Option(help="Above 1: so many clients of one server at once, beside one alone.")
    ] = 1,
    seconds: Annotated[Optional[float], typer.Option(help="Of each combination. [default: 1.0]")] = None,
    repeats: Annotated[Optional[int], typer.Option(help="Rounds, taken in turns. [default: 9]")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A first look: few rounds, one in flight.")] = False,
    table_bytes: Annotated[str, typer.Option(help="Of a peer's table, of each size of row.")] = "128MiB",
    seed: Annotated[int, typer.Option(help="Of the tables, and of what is asked for.")] = 1,
    deadline: Annotated[float, typer.Option(help="Seconds until a request counts as lost.")] = 30.0,
    link: Annotated[
        Optional[str],
        typer.Option(metavar="RATE", help="Put the peers behind a link of that rate: 1gbit (root)."),
    ] = None,
    server: Annotated[
        bool, typer.Option("--server", help="Be the far side, for --connect on another machine.")
    ] = False,
    address: Annotated[
        Optional[str], typer.Option(help="With --server: this machine's address on the network to measure.")
    ] = None,
    port: Annotated[
        int, typer.Option(help="With --server: where to listen; 0: any free one.")
    ] = _DEFAULT_PORT,
    connect: Annotated[
        Optional[str],
        typer.Option(metavar="HOST:PORT,...", help="Measure to machines that run --server."),
    ] = None,
    plot: Annotated[
        Optional[Path], typer.Option(metavar="FILE.png", help="Draw the results (needs matplotlib).")
    ] = None,
    json_file: Annotated[
        Optional[str],
        typer.Option("--json", metavar="FILE", help="Write all numbers to this file; - for stdout, alone."),
    ] = None,
) -> None:
    """Fetch random rows from peers, and compare with a memcpy gather, a raw TCP stream and DistDGL's pull.

    All take turns in one run; rates are medians and every byte is checked: the command ends with 1 where one
    differs. Without --link, --server and --connect the peers are processes of this machine. Between two
    machines, --server prints the name of a file with a secret; give a copy to the other one in
    RUDDER_SECRET_FILE (or its text in RUDDER_SECRET), and run --connect there.
    """
    from rudder.bench import table
    from rudder.bench.plot import draw
    from rudder.bench.run import run
    from rudder.bench.settings import FetchSettings, parse_counts, parse_names, parse_places, parse_sizes
    from rudder.errors import ConfigError
    from rudder.pictures import check

    if sum((server, connect is not None, link is not None)) > 1:
        raise ConfigError("--server, --connect and --link exclude one another")
    if server:
        _serve(address, port)
        return
    if clients < 1 or clients > 64:
        raise ConfigError(f"--clients {clients}: 1 to 64")
    if clients > 1 and plot is not None:
        raise ConfigError("--plot draws what --clients 1 measures")
    if json_file not in (None, "-") and not Path(str(json_file)).absolute().parent.is_dir():
        raise ConfigError(f"--json {json_file}: there is no such folder")  # before minutes of work
    if plot is not None:
        check(plot)
    places = parse_places(connect) if connect is not None else []
    counts = parse_counts(peers, "--peers") if peers else (len(places) or 1,)
    if places and max(counts) > len(places):
        raise ConfigError(f"--peers {max(counts)}: --connect names {len(places)}")
    settings = FetchSettings(
        row_bytes=parse_sizes(row_bytes, "--row-bytes"),
        rows=parse_counts(rows, "--rows") if rows else _QUICK_ROWS,
        in_flight=parse_counts(in_flight, "--in-flight") if in_flight else (1,) if quick else (1, 4),
        peers=counts,
        transports=parse_names(transport),
        dgl=dgl,
        seconds=seconds if seconds is not None else _QUICK_SECONDS if quick else 1.0,
        repeats=repeats if repeats is not None else _QUICK_REPEATS if quick else 9,
        table_bytes=parse_sizes(table_bytes, "--table-bytes")[0],
        seed=seed,
        deadline_s=deadline,
    )
    report = run(settings, link=link, connect=places, clients=clients, tell=_tell)
    if plot is not None:
        draw(report.results, plot)
    found = [each.as_json() for each in report.results] + [each.as_json() for each in report.crowds]
    shown = table.of_crowds(report.crowds) if report.crowds else table.of_results(report.results)
    show(found, [shown], json_file, report.notes)
    if not report.verified:
        typer.echo("rudder: bytes differ from what was stored: do not trust this transport here", err=True)
        raise typer.Exit(1)


def gpu(
    row_bytes: Annotated[str, typer.Option(help="Sizes of a row: 512,4KiB.")] = "64,512,1KiB,4KiB",
    rows: Annotated[str, typer.Option(help="Rows of a batch.")] = "10000,100000",
    table_bytes: Annotated[str, typer.Option(help="Of the table, for each size of row.")] = "1GiB",
    repeats: Annotated[int, typer.Option(help="Turns of everything, each with other rows.")] = 21,
    threads: Annotated[int, typer.Option(help="CPU threads, of Rudder and of torch.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the tables, and of what is asked for.")] = 1,
    device: Annotated[
        str, typer.Option(help="The GPU: cuda, cuda:1. Of several ranks each has its own.")
    ] = "cuda",
    goals: Annotated[
        bool,
        typer.Option(
            "--goals",
            help="Measure batches beyond the GPU's cache, too; end with 3 where gathers miss what they are "
            "built to reach.",
        ),
    ] = False,
    json_file: Annotated[
        Optional[str],
        typer.Option("--json", metavar="FILE", help="Write all numbers to this file; - for stdout, alone."),
    ] = None,
) -> None:
    """Gather random rows into GPU memory: from device memory, pinned memory, memory that is not, and a mix.

    Beside them, in the same run: a copy within the device and one to it, which bound the gathers, torch's
    index_select with .to("cuda"), and a whole batch through a prefetcher. Where several ranks run it, each
    with a GPU (torchrun --nproc-per-node 2 --no-python rudder bench gpu), they trade rows over NCCL first;
    rank 0 measures the rest, and prints. Times are medians, by the GPU's events; every byte is checked: the
    command ends with 1 where one differs.
    """
    from rudder.bench import table
    from rudder.bench.gpu import GpuSettings
    from rudder.bench.gpu_run import run
    from rudder.bench.settings import parse_counts, parse_sizes

    settings = GpuSettings(
        row_bytes=parse_sizes(row_bytes, "--row-bytes"),
        rows=parse_counts(rows, "--rows"),
        table_bytes=parse_sizes(table_bytes, "--table-bytes")[0],
        repeats=repeats,
        threads=threads,
        seed=seed,
    )
    report = run(device, settings, _tell, judged=goals)
    missed = report.missed() if goals else []
    if report.rank == 0:
        tables = [table.of_gpu(report.gathers)] if report.gathers else []
        tables += [table.of_exchanges(report.exchanges)] if report.exchanges else []
        show(
            report.as_json(), tables, json_file, [*report.notes, *(f"goal missed: {each}" for each in missed)]
        )
    if not report.verified:
        typer.echo("rudder: bytes differ from what was stored: do not trust this GPU path here", err=True)
        raise typer.Exit(1)
    if missed and report.rank == 0:
        typer.echo(f"rudder: {len(missed)} goals missed", err=True)
        raise typer.Exit(3)


def _serve(address: str | None, port: int) -> None:
    from rudder.bench.standing import own_address, standing_peer

    place = address or own_address()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), standing_peer(place, port) as standing:
        host, bound = standing.address
        typer.echo(f"serving at {host}:{bound}; on the other machine, run")
        typer.echo(f"  {standing.how_to_know} rudder bench fetch --connect {host}:{bound}")
        typer.echo("Ctrl-C ends it", err=True)
        sys.stdout.flush()
        signal.pause()


def _tell(words: str) -> None:
    if sys.stderr.isatty():
        typer.echo(f"{words} ...", err=True)
