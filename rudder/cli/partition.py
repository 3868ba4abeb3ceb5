"""`rudder partition`: a graph -> DistDGL partitions, with the VIP prior of each."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from rudder.cli.parts import FANOUT_HELP, parse_fanouts, parts_table

if TYPE_CHECKING:
    import typer

    from rudder.partition import PartitionReport


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    import typer

    @app.command()
    def partition(
        graph: str = typer.Argument(
            help="An .npz file (arrays src, dst, num_nodes; optionally feat, label, split, directed: see "
            "docs/graphs.md), 'generated', 'ogbn-*', or a DGL data set (cora, ...)."
        ),
        out: str = typer.Option(..., "--out", "-o", help="Folder for the partitions."),
        parts: int = typer.Option(2, "--parts", "-p", help="Partitions, one per host."),
        fanout: str = typer.Option("10,25", "--fanout", help=FANOUT_HELP),
        batch_size: int = typer.Option(1000, "--batch-size", help="Seeds per minibatch of a trainer."),
        trainers: int = typer.Option(1, "--trainers", help="Trainers per host."),
        method: str = typer.Option("metis", "--method", help="metis or random."),
        name: str = typer.Option("", "--name", help="Graph name; by default that of the file or data set."),
        seed: int = typer.Option(
            0, "--seed", help="Of the generated graph, synthesised data and random parts."
        ),
        undirected: bool = typer.Option(
            True, "--undirected/--as-given", help="Store both directions of every arc, or arcs as given."
        ),
        self_loops: str = typer.Option("keep", "--self-loops", help="keep, drop or add."),
        feature_dim: int = typer.Option(
            128, "--feature-dim", help="Width of features made for graphs without."
        ),
        balance_train: bool = typer.Option(True, help="Balance train nodes over partitions (metis)."),
        balance_edges: bool = typer.Option(True, help="Balance edges over partitions (metis)."),
        force: bool = typer.Option(
            False, "--force", help="Replace the partitions in a folder that is not empty."
        ),
        data_root: str = typer.Option("dataset", "--data-root", help="Where data sets are downloaded to."),
        json_file: str = typer.Option(
            "", "--json", help="Write the report to this file; - for stdout, alone."
        ),
    ) -> None:
        """Partition a graph for DistDGL and store the prior of each partition beside it."""
        from rudder.graphs import load_graph
        from rudder.partition import partition_graph

        fanouts = parse_fanouts(fanout)
        with _stages(quiet=json_file == "-") as on_stage:
            on_stage("loading the graph")
            report = partition_graph(
                load_graph(graph, root=data_root, seed=seed),
                out,
                name=name or None,
                parts=parts,
                fanouts=fanouts,
                batch_size=batch_size,
                trainers=trainers,
                method=method,
                seed=seed,
                undirected=undirected,
                self_loops=self_loops,
                feature_dim=feature_dim,
                balance_train=balance_train,
                balance_edges=balance_edges,
                force=force,
                on_stage=on_stage,
            )
        text = json.dumps(report.as_json(), indent=2)
        if json_file == "-":
            typer.echo(text)
            return
        if json_file:
            Path(json_file).write_text(text + "\n")
        print_report(report)


def print_report(report: PartitionReport) -> None:
    """The table at the end of the command."""
    from rich.console import Console

    console = Console()
    console.print(
        f"{report.graph_name}: {report.num_nodes:,} nodes, {report.num_edges:,} edges, {report.method}"
    )
    console.print(parts_table(report.parts))
    console.print(f"{sum(report.seconds.values()):.1f} s; wrote {report.part_config}", soft_wrap=True)


@contextmanager
def _stages(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A spinner that names the stage, on stderr."""
    if quiet:
        yield lambda words: None
        return
    from rich.console import Console

    # A console with a file of its own: DGL's prints are caught by swapping sys.stdout; this one must not be.
    with Console(file=sys.stderr).status("...") as status:
        yield status.update
