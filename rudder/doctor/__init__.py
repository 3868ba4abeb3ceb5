"""What this machine offers to Rudder, what is missing, and how to get it. Needs nothing but numpy.

`rudder doctor` prints it; `examine()` returns it. Looking has no side effects: no file is written, no port
stays open, and third-party packages are imported in processes of their own.
"""

from __future__ import annotations

from collections.abc import Callable

from rudder.doctor import machine, software
from rudder.doctor.check import Check, Status

__all__ = ["PROBES", "Check", "Status", "examine"]

# In the order of the report: what Rudder cannot do without comes first.
PROBES: tuple[Callable[[], Check], ...] = (
    software.core,
    software.torch,
    software.dgl,
    machine.cpu,
    machine.memory,
    machine.shared_memory,
    machine.huge_pages,
    machine.locked_memory,
    machine.ports,
    machine.hosts,
    machine.namespaces,
    machine.cuda,
    software.gpu,
    software.ucx,
    software.nccl,
    software.agent,
    software.plotting,
    software.compiler,
    software.gtest,
    software.benchmark,
)


def examine() -> list[Check]:
    """Run every probe, in order. A probe that breaks is reported as a failed check, never raised."""
    return [_guarded(probe) for probe in PROBES]


def _guarded(probe: Callable[[], Check]) -> Check:
    try:
        return probe()
    except Exception as error:  # a report with a hole is worth more than none
        name = probe.__name__.replace("_", " ")
        return Check(name, Status.FAILED, f"the probe broke: {type(error).__name__}: {error}")
