"""What the shadow takes for one sampled access under one plan: what `rudder bench agent` charges for a look.

Held-out jobs that drift, on the terms of a live run, steered by the shadow controller: all time within the
shadow, by the plans and accesses that it was charged for. Asserts that the modelled time of a run is within
10% of the simulated one, whose shadow it is. Goal: no more than is charged. Run:

    python benchmarks/shadow_bench.py --json results.json

Last result, 2 cores: 0.11 to 0.12 microseconds, 0.12 are charged.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from harness import run

from rudder import Plan
from rudder.agent.shadow import ShadowController
from rudder.rollout.drive import drive
from rudder.rollout.generate import DRIFTING, workload
from rudder.rollout.paid_shadow import ACCESS_SECONDS
from rudder.rollout.simulator import Simulator
from rudder.rollout.terms import LIVE
from rudder.shadow import Shadow

#: A link that slows down has another latency, too, which the shadow does not know.
TOLERANCE = 0.1
_CALLS = ("look", "end_interval", "counterfactuals", "applied")


class TimedShadow:
    """In the place of a shadow: passes calls on, and knows how long those took that a trainer waits for."""

    def __init__(self, shadow: Shadow) -> None:
        self._shadow = shadow
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._shadow, name)
        return self._timed(found) if name in _CALLS else found

    def _timed(self, call: Any) -> Any:
        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*arguments, **named)
            finally:
                self.seconds += time.perf_counter() - began

        return timed


def play(kind: str, seed: int) -> float:
    """Seconds for an access under one plan, of one job."""
    load = workload(kind, seed, held_out=True)
    shadows: list[TimedShadow] = []
    paid: list[Any] = []

    def steer(simulator: Simulator) -> ShadowController:
        assert simulator.shadow is not None
        shadows.append(TimedShadow(simulator.shadow.shadow))
        paid.append(simulator.shadow)
        simulator.shadow._shadow = shadows[0]  # type: ignore[assignment]
        return ShadowController()

    found = drive(load, steer, plan=Plan(prior=load.priors[0]), terms=LIVE)
    modelled, simulated = shadows[0].live_ms, 1000 * found.seconds[-1] / Plan().interval
    assert abs(modelled / simulated - 1) < TOLERANCE, (load.name, modelled, simulated)
    return shadows[0].seconds / (paid[0].spent / ACCESS_SECONDS)


def measure(jobs: int) -> dict[str, float]:
    each = [play(kind, 1000 + seed) for seed in range(jobs) for kind in DRIFTING]
    return {"microseconds": 1e6 * statistics.median(each), "charged": 1e6 * ACCESS_SECONDS}


def verdict(result: dict[str, float]) -> str:
    return f"{result['microseconds']:.3f} us an access and plan ({result['charged']:.2f} are charged)"


if __name__ == "__main__":
    run(__doc__, "--jobs", 3, measure, verdict)
