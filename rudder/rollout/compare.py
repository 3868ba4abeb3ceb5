"""``python -m rudder.rollout.compare``: what controllers gain over the default plan, by kind of workload."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence

from rudder.agent.default import DefaultController
from rudder.agent.oracle import OracleController
from rudder.agent.rule import RuleController
from rudder.agent.shadow import ShadowController
from rudder.rollout.drive import Make, drive
from rudder.rollout.generate import KINDS, workload

CONTROLLERS: dict[str, Make] = {
    "rule": lambda simulator: RuleController(),
    "shadow": lambda simulator: ShadowController(),
    "oracle": lambda simulator: OracleController(simulator.cost_of),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table: percent of the default plan's modelled time that is saved, median (least to most)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=6, help="workloads of each kind")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--held-out", action="store_true", help="workloads that nobody learns from")
    options = parser.parse_args(argv)
    names = list(CONTROLLERS)
    print("| kind | default, ms a step | " + " | ".join(names) + " |")
    print("| --- " * (len(names) + 2) + "|")
    for kind in KINDS:
        saved: dict[str, list[float]] = {name: [] for name in names}
        times = []
        for seed in range(options.first, options.first + options.seeds):
            some = workload(kind, seed, held_out=options.held_out)
            default = drive(some, lambda simulator: DefaultController(), guarded=False).step_ms
            times.append(default)
            for name, make in CONTROLLERS.items():
                # The oracle needs no guard; the others have it, as in a live run.
                found = drive(some, make, guarded=name != "oracle").step_ms
                saved[name].append(100 * (1 - found / default))
        cells = [f"{statistics.median(one):.1f} ({min(one):.1f} to {max(one):.1f})" for one in saved.values()]
        print(f"| {kind} | {statistics.median(times):.1f} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
