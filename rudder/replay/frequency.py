"""Lookahead with a prior that the run makes for itself: accesses counted so far, older ones counting less."""

from __future__ import annotations

import numpy as np

from rudder import _core
from rudder.frequency import FrequencyPrior
from rudder.replay.load import Case
from rudder.replay.settings import Request
from rudder.source import Ids

_NOTHING: Ids = np.empty(0, dtype=np.int64)


def replay_by_frequency(
    case: Case, rows: int, request: Request, *, window: int, window_rows: int, depth: int
) -> dict[str, int]:
    """Replay lookahead with a prior of counts, rebuilt every ``request.interval`` minibatches.

    Costs 5 bytes per row and rebuild beside the trace.
    """
    counted = FrequencyPrior(len(case.nodes))
    calls: list[tuple[str, int, Ids]] = []
    priors = []
    offsets = case.offsets
    entered = 0
    for minibatch in range(len(case)):
        if minibatch and minibatch % request.interval == 0:
            priors.append(_core.Prior.from_worth(counted.worth()))
            calls.append(("prior", 0, _NOTHING))
        reach = max(
            minibatch + 1 + window,
            int(np.searchsorted(offsets, offsets[minibatch + 1] + window_rows)),
        )
        for entering in range(entered, min(reach, len(case))):
            calls.append(("foresee", entering + 1, _minibatch(case, entering)))
        entered = max(entered, min(reach, len(case)))
        calls.append(("execute", minibatch + 1, _NOTHING))
        counted.count(_minibatch(case, minibatch), request.half_life)
    return _core.replay_log(
        calls, id_space=len(case.nodes), policy="lookahead", capacity=rows, depth=depth, priors=priors
    )


def _minibatch(case: Case, number: int) -> Ids:
    ids: Ids = case.ids[case.offsets[number] : case.offsets[number + 1]].astype(np.int64)
    return ids
