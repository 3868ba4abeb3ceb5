"""What `rudder bench agent` found, as values: `--json` writes these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

DEFAULT, ORACLE = "default", "oracle"
# Resamples of the workloads; the ends of an interval move by less than a tenth of its width between seeds.
_RESAMPLES, _SEED = 2000, 1


@dataclass(frozen=True)
class Outcome:
    """One workload, steered by one controller."""

    workload: str
    controller: str
    #: Milliseconds a step over the whole workload, by the model of time.
    modelled_step_ms: float
    #: Plans that differed from the one in force, and default plans that the guard put back.
    changes: int
    rolled_back: int


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95% interval, by resampling workloads."""

    middle: float
    low: float
    high: float


@dataclass(frozen=True)
class Standing:
    """One controller over all workloads: shares of the modelled time of a step; None: nobody to compare."""

    controller: str
    #: Means over workloads of the gain; negative where slower.
    over_default: Interval
    over_rule: Interval | None
    over_shadow: Interval | None
    #: The median over workloads of the gain over default: 0 where most of them leave nothing to gain.
    median: Interval
    #: Mean gain over default, of the oracle's mean gain over default. None where the oracle gains nothing.
    of_oracle: Interval | None
    #: Mean of what it takes longer than the oracle.
    regret: Interval
    #: Its gain over default where that is smallest.
    worst: float


@dataclass(frozen=True)
class AgentReport:
    """Everything. A model's fields are None where none was measured."""

    model: str | None
    load_seconds: float | None
    #: "p50" and "p99" of a whole decision, and of its two parts.
    decision_ms: dict[str, float]
    #: Replies that were plans of the space.
    valid_share: float | None
    decisions: int
    outcomes: list[Outcome]
    notes: list[str] = field(default_factory=list)

    def workloads(self) -> list[str]:
        """Names, in the order in which they ran."""
        return list(dict.fromkeys(outcome.workload for outcome in self.outcomes))

    def controllers(self) -> list[str]:
        """Names, in the order in which they ran."""
        return list(dict.fromkeys(outcome.controller for outcome in self.outcomes))

    def milliseconds(self, workloads: Sequence[str]) -> dict[str, npt.NDArray[np.float64]]:
        """Of each controller, in the order of ``workloads``."""
        found = {(each.controller, each.workload): each.modelled_step_ms for each in self.outcomes}
        return {
            controller: np.array([found[controller, workload] for workload in workloads])
            for controller in self.controllers()
        }

    def standings(self, workloads: Sequence[str] | None = None) -> list[Standing]:
        """Every controller over these workloads (by default all)."""
        times = self.milliseconds(self.workloads() if workloads is None else workloads)
        return [_standing(controller, times) for controller in times]

    def as_json(self) -> dict[str, Any]:
        """As the file has it."""
        times = {(each.workload, each.controller): each for each in self.outcomes}
        listed = []
        for workload in self.workloads():
            best = times[workload, ORACLE].modelled_step_ms
            listed.append(
                {
                    "workload": workload,
                    "controllers": {
                        controller: {
                            "modelled_step_ms": times[workload, controller].modelled_step_ms,
                            "regret_to_oracle": times[workload, controller].modelled_step_ms / best - 1,
                            "changes": times[workload, controller].changes,
                            "rolled_back": times[workload, controller].rolled_back,
                        }
                        for controller in self.controllers()
                    },
                }
            )
        return {
            "model": self.model,
            "load_seconds": self.load_seconds,
            "decision_ms": self.decision_ms,
            "valid_share": self.valid_share,
            "decisions": self.decisions,
            "workloads": listed,
            "notes": self.notes,
        }


def _standing(controller: str, times: dict[str, npt.NDArray[np.float64]]) -> Standing:
    own, default, oracle = times[controller], times[DEFAULT], times[ORACLE]

    def gain(baseline: str, middle: Callable[..., Any] = np.mean) -> Interval | None:
        if baseline not in times or baseline == controller:
            return None
        gains = 1 - own / times[baseline]
        return resampled(lambda rows: float(middle(gains[rows])), len(own))

    def of_oracle(rows: npt.NDArray[np.int64]) -> float:
        possible = float(np.mean(1 - oracle[rows] / default[rows]))
        return float(np.mean(1 - own[rows] / default[rows])) / possible if possible > 0 else float("nan")

    nothing = Interval(0.0, 0.0, 0.0)
    everything = np.arange(len(own))
    return Standing(
        controller,
        gain(DEFAULT) or nothing,
        gain("rule"),
        gain("shadow"),
        gain(DEFAULT, np.median) or nothing,
        None if np.isnan(of_oracle(everything)) else resampled(of_oracle, len(own)),
        resampled(lambda rows: float(np.mean(own[rows] / oracle[rows] - 1)), len(own)),
        float(np.min(1 - own / default)),
    )


def resampled(statistic: Callable[[npt.NDArray[np.int64]], float], count: int) -> Interval:
    """The statistic of rows 0 to count-1, and the middle 95% of it over rows drawn again with replacement."""
    chance = np.random.default_rng(_SEED)
    found = [statistic(chance.integers(0, count, count)) for _ in range(_RESAMPLES)]
    low, high = np.nanpercentile(found, (2.5, 97.5))
    return Interval(statistic(np.arange(count)), float(low), float(high))
