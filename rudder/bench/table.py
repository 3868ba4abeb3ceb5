"""Results as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rudder.bench.exchange import ExchangeResult
from rudder.bench.gpu import GpuResult
from rudder.bench.result import CrowdResult, FetchResult

if TYPE_CHECKING:
    from rich.table import Table


def of_results(results: Sequence[FetchResult]) -> Table:
    """One line for each combination."""
    table = _table(
        *("transport", "link", "row", "rows", "in flight", "peers", "rows/s", "GB/s", "p50 us", "p99 us"),
        *("p99.9 us", "/ memcpy", "/ stream", "/ DistDGL", "CPU ns/row", ""),
    )
    shape = None
    for each in results:
        if shape not in (None, _shape(each)):
            table.add_section()
        shape = _shape(each)
        table.add_row(
            each.transport,
            each.link,
            _size(each.row_bytes),
            f"{each.rows_per_request:,}",
            str(each.in_flight),
            str(each.peers),
            f"{each.rows_per_second:,.0f}",
            f"{each.gigabytes_per_second:.3f}",
            *(_microseconds(value) for value in (each.p50_us, each.p99_us, each.p999_us)),
            _ratio(each.ratio_to_memcpy_gather),
            _ratio(each.ratio_to_raw_stream),
            _ratio(each.ratio_to_distdgl_pull),
            "-" if each.cpu_ns_per_row is None else f"{each.cpu_ns_per_row:,.0f}",
            _verdict(each.verified),
        )
    return table


def of_crowds(crowds: Sequence[CrowdResult]) -> Table:
    """One line for each combination that several clients asked for at once."""
    table = _table(
        *("transport", "link", "row", "rows", "in flight", "clients", "rows/s", "GB/s", "/ one client"),
        *("slowest / mean", ""),
    )
    for each in crowds:
        table.add_row(
            each.transport,
            each.link,
            _size(each.row_bytes),
            f"{each.rows_per_request:,}",
            str(each.in_flight),
            str(each.clients),
            f"{each.rows_per_second:,.0f}",
            f"{each.gigabytes_per_second:.3f}",
            f"{each.ratio_to_one_client:.2f}",
            f"{each.slowest_to_mean:.2f}",
            _verdict(each.verified),
        )
    return table


def of_gpu(results: Sequence[GpuResult]) -> Table:
    """One line for each way to get a batch of some shape onto the GPU."""
    table = _table("rows from", "row", "rows", "ms", "GB/s", "/ copy", "/ index_select", "")
    shape = None
    for each in results:
        if shape not in (None, (each.row_bytes, each.rows)):
            table.add_section()
        shape = (each.row_bytes, each.rows)
        table.add_row(
            each.subject,
            _size(each.row_bytes),
            f"{each.rows:,}",
            f"{each.milliseconds:.3f}",
            f"{each.gigabytes_per_second:.1f}",
            _ratio(each.ratio_to_copy),
            _ratio(each.speedup),
            _verdict(each.verified),
        )
    return table


def of_exchanges(results: Sequence[ExchangeResult]) -> Table:
    """One line for each kind of memory and shape in which ranks traded rows."""
    table = _table("rows between GPUs", "ranks", "row", "rows", "ms", "GB/s", "gathered by", "timed by", "")
    for each in results:
        table.add_row(
            each.subject,
            str(each.ranks),
            _size(each.row_bytes),
            f"{each.rows:,}",
            f"{each.milliseconds:.3f}",
            f"{each.gigabytes_per_second:.1f}",
            each.serving,
            each.timed_by,
            _verdict(each.verified),
        )
    return table


def _table(*headings: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in headings:
        text = heading in ("transport", "link", "rows from", "rows between GPUs", "")
        table.add_column(heading, justify="left" if text else "right", no_wrap=True)
    return table


def _shape(result: FetchResult) -> tuple[int, int, int]:
    return result.row_bytes, result.rows_per_request, result.peers


def _size(count: int) -> str:
    return f"{count >> 10} KiB" if count % 1024 == 0 else f"{count} B"


def _microseconds(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _verdict(verified: bool) -> str:
    return "verified" if verified else "BYTES DIFFER"
