"""Results as a picture: throughput, latency and CPU time against rows per request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rudder.bench.result import FetchResult
from rudder.pictures import check

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(results: Sequence[FetchResult], path: Path) -> None:
    """Write a picture (.png, .pdf or .svg), one row for each size of row. Raises ConfigError as `check`."""
    check(path)
    from matplotlib.figure import Figure

    sizes = list(dict.fromkeys(result.row_bytes for result in results))
    figure = Figure(figsize=(15, 4.2 * max(1, len(sizes))), layout="constrained")
    grid = figure.subplots(max(1, len(sizes)), 3, squeeze=False)
    for (rate, latency, cpu), size in zip(grid, sizes):
        own = [result for result in results if result.row_bytes == size]
        _lines(rate, own, lambda result: result.gigabytes_per_second)
        rate.set(title=f"Throughput, rows of {size} bytes", ylabel="GB/s")
        _lines(latency, own, lambda result: result.p50_us)
        _lines(latency, own, lambda result: result.p99_us, style=":", named=False)
        latency.set(title="Latency of a request (p50; dotted: p99)", ylabel="us", yscale="log")
        _lines(cpu, own, lambda result: result.cpu_ns_per_row)
        cpu.set(title="CPU time, both sides", ylabel="ns a row")
    figure.savefig(path)


def _lines(
    axes: Axes,
    results: Sequence[FetchResult],
    value: Callable[[FetchResult], float | None],
    *,
    style: str = "-",
    named: bool = True,
) -> None:
    series: dict[str, list[tuple[int, float]]] = {}
    for result in results:
        number = value(result)
        if number is not None:
            series.setdefault(_name(result), []).append((result.rows_per_request, number))
    for color, (name, points) in enumerate(series.items()):
        xs, ys = zip(*sorted(points))
        axes.plot(xs, ys, style, marker="o", color=f"C{color}", label=name if named else None)
    axes.set(xlabel="rows of a request", xscale="log")
    if series and named:
        axes.legend(fontsize="small")


def _name(result: FetchResult) -> str:
    peers = f", {result.peers} peers" if result.peers > 1 else ""
    return f"{result.transport}, {result.in_flight} in flight{peers}"
