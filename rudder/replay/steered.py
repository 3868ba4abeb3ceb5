"""Replays in which something is steered at the end of each interval, as a live run's planner does it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rudder import _core
from rudder.frequency import FrequencyPrior
from rudder.policies import LOOKAHEAD, SCORE, PolicySettings
from rudder.replay.load import Case
from rudder.source import Ids
from rudder.trace import Worth

_NOTHING: Ids = np.empty(0, dtype=np.int64)
_Call = tuple[str, int, Ids]


def replay_by_frequency(
    case: Case, rows: int, *, half_life: int, interval: int, window: int, window_rows: int, depth: int
) -> dict[str, int]:
    """Lookahead with a prior that the run makes for itself: accesses counted so far, older ones less.

    The prior is built anew every ``interval`` minibatches. Costs 5 bytes per row and rebuild beside the
    trace.
    """
    counted = FrequencyPrior(len(case.nodes))
    calls: list[_Call] = []
    priors = []
    entered = 0
    for minibatch, ids in _minibatches(case):
        if minibatch and minibatch % interval == 0:
            priors.append(_core.Prior.from_worth(counted.worth()))
            calls.append(("prior", 0, _NOTHING))
        reach = _reach(case, minibatch, window, window_rows)
        for entering in range(entered, reach):
            calls.append(("foresee", entering + 1, case[entering]))
        entered = max(entered, reach)
        calls.append(("execute", minibatch + 1, _NOTHING))
        counted.count(ids, half_life)
    return _core.replay_log(
        calls, id_space=len(case.nodes), policy=LOOKAHEAD, capacity=rows, depth=depth, priors=priors
    )


def replay_on_demand(
    case: Case, rows: int, *, settings: PolicySettings, candidates: Worth | None, interval: int, depth: int
) -> dict[str, int]:
    """Score with a period of 0, and a controller that says yes every ``interval`` minibatches."""
    calls: list[_Call] = []
    priors = []
    if candidates is not None:
        priors.append(_core.Prior.from_worth(candidates))
        calls.append(("prior", 0, _NOTHING))
    if settings.prefill:
        calls.append(("read", 0, _NOTHING))  # before the first minibatch, as in every other replay
    for minibatch, ids in _minibatches(case):
        if minibatch and minibatch % interval == 0:
            calls.append(("replace", 1, _NOTHING))
        calls += [("foresee", minibatch + 1, ids), ("execute", minibatch + 1, _NOTHING)]
    core: dict[str, Any] = settings.for_core()
    return _core.replay_log(
        calls, id_space=len(case.nodes), policy=SCORE, capacity=rows, depth=depth, priors=priors, **core
    )


def _minibatches(case: Case) -> Iterator[tuple[int, Ids]]:
    return ((number, case[number]) for number in range(len(case)))


def _reach(case: Case, minibatch: int, window: int, window_rows: int) -> int:
    """How many minibatches have entered the window when this one is executed."""
    offsets = case.offsets
    by_rows = int(np.searchsorted(offsets, offsets[minibatch + 1] + window_rows))
    return min(max(minibatch + 1 + window, by_rows), len(case))
