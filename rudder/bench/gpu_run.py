"""`rudder bench gpu`, whole: rows between the GPUs of a job, then gathers on the GPU of rank 0."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rudder.bench import exchange, goals
from rudder.bench.exchange import ExchangeResult
from rudder.bench.gpu import EventTimer, GpuResult, GpuSettings, measure
from rudder.errors import ConfigError
from rudder.gpu import open_gpu

_ONE_RANK = (
    "rows between GPUs: not measured with one rank; "
    "on a host of N GPUs: torchrun --nproc-per-node N --no-python rudder bench gpu"
)


@dataclass
class GpuReport:
    """What was found, and what was not measured, and why."""

    gathers: list[GpuResult] = field(default_factory=list)
    exchanges: list[ExchangeResult] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: Others than rank 0 print nothing.
    rank: int = 0
    #: From which a batch is judged.
    least_bytes: int = 0

    @property
    def verified(self) -> bool:
        """Was every byte right?"""
        return all(each.verified for each in self.gathers) and all(each.verified for each in self.exchanges)

    def as_json(self) -> list[dict[str, Any]]:
        """Each result; those of exchanges have "ranks"."""
        return [*(each.as_json() for each in self.gathers), *(each.as_json() for each in self.exchanges)]

    def missed(self) -> list[str]:
        """Goals of Rudder's that these gathers miss; see `rudder.bench.goals`."""
        return goals.missed(self.gathers, self.least_bytes)


def run(
    device: str, settings: GpuSettings, tell: Callable[[str], None], *, judged: bool = False
) -> GpuReport:
    """Measure. ``device``: of the gathers, where one rank runs alone. ``judged``: with batches for the goals.

    Raises ConfigError, ArenaError, and where ranks fail TransportError, DeadlineError.
    """
    if exchange.ranks_here() == 1:
        report = GpuReport(notes=[_ONE_RANK])
        _gather(report, device, settings, tell, judged)
        return report
    ranks = exchange.meet()
    report = GpuReport(rank=ranks.rank)
    place = exchange.open_place(int(os.environ.get("LOCAL_RANK", ranks.rank)))
    reason = exchange.why_absent(ranks, place)
    if reason is None:
        report.exchanges = exchange.measure(ranks, place, settings, tell)
    else:
        report.notes.append(f"rows between GPUs: not measured: {reason}")
    ranks.part()
    if ranks.rank == 0:
        try:
            _gather(report, f"cuda:{place.device}", settings, tell, judged)
        except ConfigError as error:
            if not report.exchanges:
                raise ConfigError("; ".join([str(error), *report.notes])) from error
            report.notes.append(f"gathers: not measured: {error}")
    return report


def _gather(
    report: GpuReport, device: str, settings: GpuSettings, tell: Callable[[str], None], judged: bool
) -> None:
    gpu = open_gpu(device)
    cache = gpu.cache_bytes
    report.least_bytes = goals.least_bytes(cache)
    more = report.least_bytes if judged else 0
    report.gathers = measure(gpu, EventTimer(), settings, tell, also_batches_of=more)
    known = "unknown" if cache is None else f"{cache / 1e6:.0f} MB"
    report.notes.append(f"on {gpu.name}, L2 {known}")
