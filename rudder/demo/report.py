"""Both runs as one JSON object and as one table.

Rows are distinct remote rows of each minibatch, summed over minibatches, epochs and trainers; evaluation is
left out. Seconds of an epoch are those of its slowest trainer; waiting is a mean over trainers, summed over
epochs, measured around the same statements in both runs: taking the next minibatch from the loader, indexing
the features, indexing the labels (of which DistDGL puts a few on other hosts).
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from rudder.demo.job import Run, controller_of
from rudder.demo.parts import Parts
from rudder.demo.settings import DemoSettings

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA = 1


def as_json(settings: DemoSettings, parts: Parts, stock: Run, rudder: Run) -> dict[str, Any]:
    """Everything that the demonstration found out.

    ``differing_rows`` is None without ``verify``. ``capacity_rows`` is the largest buffer of a trainer, in
    rows; ``capacity_rows_by_trainer`` has all. ``hosts`` and ``trainers`` (per host) are as asked for.
    """
    own = [trainer["rudder_with_evaluation"] for trainer in rudder.trainers]
    capacities = [values["capacity_rows"] for values in own]
    losses = [
        abs(a - b)
        for one, other in zip(_by_minibatches(stock), _by_minibatches(rudder))
        for a, b in zip(one["losses"], other["losses"])
    ]
    return {
        "schema": SCHEMA,
        "graph": parts.graph,
        "num_nodes": parts.num_nodes,
        "num_edges": parts.num_edges,
        "halo_nodes": parts.halo_nodes,
        "row_bytes": stock.trainers[0]["row_bytes"],
        "hosts": settings.hosts,
        "trainers": settings.trainers,
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "fanout": list(settings.fanout),
        "seed": settings.seed,
        "rate": settings.rate,
        "policy": settings.policy,
        "controller": controller_of(settings)[0],
        "why_no_agent": controller_of(settings)[1] or None,
        "decisions": decisions(rudder),
        "plan": rudder.trainers[0]["rudder"]["plan"],
        "transports": transports(rudder),
        "capacity": settings.capacity,
        "capacity_rows": max(capacities),
        "capacity_rows_by_trainer": capacities,
        "verified_rows": sum(values["verified_rows"] for values in own) if settings.verify else None,
        "differing_rows": sum(values["differing_rows"] for values in own) if settings.verify else None,
        "same_minibatches": sorted(_each(stock, "fingerprint")) == sorted(_each(rudder, "fingerprint")),
        "largest_loss_difference": max(losses, default=0.0),
        "accuracy": {run.variant: _accuracy(run) for run in (stock, rudder)},
        "stock": {**_common(stock), **_pulled(stock)},
        "rudder": {**_common(rudder), **_moved(rudder)},
    }


def transports(run: Run) -> list[str]:
    """Names of the transports that the run's trainers used."""
    return sorted({route["transport"] for t in run.trainers for route in t["routes"] if route["transport"]})


def decisions(run: Run) -> dict[str, Any] | None:
    """What the trainers' controllers decided, took and gained; None where nothing steered.

    Seconds are summed over trainers: on their own threads, of other processes' CPU, and those that the shadow
    says the plans saved against the default plan.
    """
    totals = [trainer["rudder"] for trainer in run.trainers]
    names = ("made", "valid", "late", "adopted", "rolled_back")
    found = {name: sum(values[f"decisions_{name}"] for values in totals) for name in names}
    if not any(values["seconds_steering"] for values in totals):
        return None
    seconds = {
        name: sum(values[name] for values in totals)
        for name in ("seconds_steering", "seconds_agent", "seconds_gained", "seconds_wall")
    }
    return {
        **found,
        "refused": sum(values["refused_decisions"] for values in totals),
        **{name: round(value, 6) for name, value in seconds.items()},
        "agent_bytes": max(values["agent_bytes"] for values in totals),
    }


def _common(run: Run) -> dict[str, Any]:
    """What both variants have, measured in the same way."""
    by_epoch = [max(seconds) for seconds in zip(*_each(run, "epoch_seconds"))]
    sampling, rows = _mean(run, "seconds_sampling"), _mean(run, "seconds_rows")
    labels = _mean(run, "seconds_labels")
    return {
        "epoch_seconds": by_epoch,
        "epoch_seconds_median": statistics.median(by_epoch),
        "stall_seconds": sampling + rows + labels,
        "sampling_wait_seconds": sampling,
        "rows_wait_seconds": rows,
        "labels_wait_seconds": labels,
        "stall_share": (sampling + rows + labels) / sum(by_epoch),
        "job_seconds": run.seconds,
        "attach_seconds": max(_each(run, "seconds_attaching")),
        "minibatches": _sum(run, "minibatches"),
        "rows_requested": _sum(run, "rows_requested"),
        "final_loss": statistics.fmean(trainer["losses"][-1] for trainer in run.trainers),
    }


def _pulled(run: Run) -> dict[str, Any]:
    """Without a buffer, every remote id that is asked for moves its row."""
    rows = _sum(run, "rows_pulled")
    return {"rows_moved": rows, "bytes_moved": rows * run.trainers[0]["row_bytes"], "hit_rate": 0.0}


def _moved(run: Run) -> dict[str, Any]:
    """What Rudder's own metrics say of the same epochs."""
    totals = [trainer["rudder"] for trainer in run.trainers]
    names = ("rows_moved", "bytes_moved", "rows_hit", "rows_merged", "rows_read_unplanned")
    moved: dict[str, Any] = {name: sum(values[name] for values in totals) for name in names}
    requested = sum(values["rows_requested"] for values in totals)
    moved["hit_rate"] = moved["rows_hit"] / requested if requested else 0.0
    # Counted by the engine; `rows_requested` is counted by the training script.
    moved["rows_requested_of_engine"] = requested
    whole = [trainer["rudder_with_evaluation"] for trainer in run.trainers]
    moved["with_evaluation"] = {
        name: sum(values[name] for values in whole) for name in ("rows_requested", "rows_moved")
    }
    moved["staging_bytes_peak"] = max(values["staging_bytes_peak"] for values in totals)
    return moved


def _by_minibatches(run: Run) -> list[dict[str, Any]]:
    """Trainers in an order that does not depend on their ranks: DGL gives a host's as they happen to come."""
    return sorted(run.trainers, key=lambda trainer: int(trainer["fingerprint"]))


def _each(run: Run, name: str) -> list[Any]:
    return [trainer[name] for trainer in run.trainers]


def _sum(run: Run, name: str) -> int:
    return int(sum(_each(run, name)))


def _mean(run: Run, name: str) -> float:
    return statistics.fmean(_each(run, name))


def _accuracy(run: Run) -> float:
    tested = _sum(run, "tested")
    return _sum(run, "correct") / tested if tested else 0.0


def faults(report: dict[str, Any]) -> list[str]:
    """What went wrong though every process ended well; empty where nothing did."""
    found = []
    if report["differing_rows"]:
        found.append(
            f"{report['differing_rows']:,} of {report['verified_rows']:,} rows differ from the stock pull"
        )
    if report["verified_rows"] == 0:
        found.append("--verify compared no row with the stock pull")
    return found


def as_table(report: dict[str, Any]) -> Table:
    """The table, for a rich console."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for heading in ("stock DistDGL", "with Rudder", "ratio"):
        table.add_column(heading, justify="right")
    for row in table_rows(report):
        table.add_row(*row)
    return table


def table_rows(report: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """(what, stock, with Rudder, comparison) of every line of the table."""
    stock, rudder = report["stock"], report["rudder"]

    def pair(name: str) -> tuple[float, float]:
        return stock[name], rudder[name]

    rows = [
        ("epoch, median", *_show(pair("epoch_seconds_median"), _seconds), _faster(stock, rudder)),
        ("  waiting, share of the time", *_show(pair("stall_share"), _percent), ""),
        ("waiting for samples", *_show(pair("sampling_wait_seconds"), _seconds), ""),
        ("waiting for rows", *_show(pair("rows_wait_seconds"), _seconds), ""),
        ("waiting for labels", *_show(pair("labels_wait_seconds"), _seconds), ""),
        ("stall, whole run", *_show(pair("stall_seconds"), _seconds), _ratio(*pair("stall_seconds"))),
        ("remote rows requested", *_show(pair("rows_requested"), _count), ""),
        ("rows moved", *_show(pair("rows_moved"), _count), _ratio(*pair("rows_moved"))),
        ("bytes moved", *_show(pair("bytes_moved"), _bytes), _ratio(*pair("bytes_moved"))),
        ("hit rate", "-", _percent(rudder["hit_rate"]), ""),
        ("test accuracy", *_show((report["accuracy"]["stock"], report["accuracy"]["rudder"]), _percent), ""),
        ("last loss", *_show(pair("final_loss"), _loss), ""),
    ]
    rows += _decision_rows(report["decisions"])
    if report["differing_rows"] is not None:
        rows.append(
            ("rows that differ", "-", f"{report['differing_rows']:,}", f"of {report['verified_rows']:,}")
        )
    return rows


def _decision_rows(found: dict[str, Any] | None) -> list[tuple[str, str, str, str]]:
    if found is None:
        return []
    share = found["seconds_steering"] / found["seconds_wall"] if found["seconds_wall"] else 0.0
    return [
        (
            "decisions: made, valid, late",
            "-",
            f"{found['made']:,}, {found['valid']:,}, {found['late']:,}",
            "",
        ),
        ("  adopted, rolled back", "-", f"{found['adopted']:,}, {found['rolled_back']:,}", ""),
        ("  cost, of the time", "-", _seconds(found["seconds_steering"]), f"{share:.2%}"),
        ("  CPU of the model", "-", _seconds(found["seconds_agent"]), ""),
        ("  gain, modelled", "-", _seconds(found["seconds_gained"]), ""),
    ]


def notes(report: dict[str, Any]) -> list[str]:
    """Lines below the table: what was compared, and how far the comparison carries."""
    trainers = report["hosts"] * report["trainers"]
    lines = [
        f"{report['graph']}: {report['num_nodes']:,} nodes, {report['num_edges']:,} edges, rows of"
        f" {report['row_bytes']} bytes; {report['hosts']} hosts, {trainers} trainers, buffers of"
        f" {report['capacity_rows']:,} rows, transport {' and '.join(report['transports'])}"
        + (f", links of {report['rate']}" if report["rate"] else ""),
    ]
    lines.append(
        f"steered by the default plan, not the agent: {report['why_no_agent']}"
        if report["why_no_agent"]
        else f"steered by controller {report['controller']}"
    )
    if report["same_minibatches"]:
        lines.append(
            "both runs trained on the same minibatches; losses differ by at most "
            f"{report['largest_loss_difference']:.1g}"
        )
    else:
        lines.append(
            "the runs drew different minibatches, so losses agree within noise only: largest difference "
            f"{report['largest_loss_difference']:.2g}"
        )
    if report["verified_rows"] is not None:
        lines.append("times with Rudder include the comparison of every row with the stock pull")
    if "shm" in report["transports"]:
        lines.append(
            "the hosts share this machine's memory, so no row crosses a wire: compare rows and bytes moved;"
            " --transport kvstore pulls as stock does, --transport ucx asks feature servers,"
            " --rate 1gbit (root) gives the hosts real links"
        )
    return lines


def _show(values: tuple[float, float], how: Any) -> tuple[str, str]:
    return how(values[0]), how(values[1])


def _seconds(value: float) -> str:
    return f"{value:.2f} s"


def _percent(value: float) -> str:
    return f"{value:.1%}"


def _loss(value: float) -> str:
    return f"{value:.4f}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _bytes(value: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:,.1f} {unit}"


def _ratio(stock: float, rudder: float) -> str:
    return f"x {rudder / stock:.2f}" if stock else ""


def _faster(stock: dict[str, Any], rudder: dict[str, Any]) -> str:
    return _ratio(stock["epoch_seconds_median"], rudder["epoch_seconds_median"])
