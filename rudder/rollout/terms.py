"""On what terms a simulated run is steered: what its controller may choose and learns, and what it pays."""

from __future__ import annotations

from dataclasses import dataclass

from rudder.options import Options

#: Priors that a simulated run can have.
PRIORS = ("vip", "degree", "frequency", "none")


@dataclass(frozen=True)
class Terms:
    """By default those on which decisions are labelled: all can be had, and the shadow takes no time."""

    #: Priors that a plan may name, of those that the workload has.
    priors: tuple[str, ...] = PRIORS
    #: Of these, the ones that can be computed anew.
    rebuilds: tuple[str, ...] = ("vip", "frequency")
    #: Are accesses counted only while the plan in force has the prior "frequency"?
    counts_in_force: bool = False
    #: What the shadow may take of the run's time; None: what it takes is not counted.
    shadow_share: float | None = None
    #: Seconds that the shadow takes a fetch's latency for. None: as it was measured when the run began.
    latency: float | None = None


#: Those of a live run as `rudder.attach` starts it.
LIVE = Terms(
    rebuilds=("frequency",),
    counts_in_force=True,
    shadow_share=Options(capacity=1).shadow_share,
)
