"""What decides in the worker: a model in llama.cpp (local.py), or one behind an address (endpoint.py)."""

from __future__ import annotations

import resource
from typing import Any, Protocol

from rudder.agent.evidence import Evidence
from rudder.agent.prompt import evidence_text
from rudder.agent.space import Space
from rudder.agent.worker.protocol import Ask
from rudder.errors import AgentError
from rudder.metrics import IntervalMetrics
from rudder.plan import Plan


class UnavailableError(AgentError):
    """Nobody answers now, but somebody may later."""


class Decider(Protocol):
    """Answers asks, one at a time."""

    #: What was loaded, and what a decision takes here.
    report: dict[str, Any]

    def decide(self, ask: Ask) -> tuple[Plan, dict[str, float]]:
        """A plan of the ask's space, and milliseconds and tokens that it took. Raises AgentError."""
        ...


def probe(number: int, deadline_ms: float) -> Ask:
    """An ask as a run's would be; those of different numbers have different evidence."""
    plan = Plan()
    metrics = IntervalMetrics(
        "probe",
        0,
        number,
        plan.interval,
        plan,
        4,
        rows_requested=1000 * number,
        rows_moved=500,
        seconds_wall=float(number),
        capacity_rows=1000,
    )
    space = Space(priors=("vip", "degree", "frequency", "none"))
    return Ask(number, evidence_text(Evidence(metrics, space)), space, deadline_ms)


def usage() -> dict[str, float]:
    """CPU seconds of this process since its start, and its memory in bytes."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    return {
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 4),
        "rss_bytes": pages * resource.getpagesize(),
    }
