"""Replays traces under every setting of a request; files run beside one another in processes of their own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from rudder import _core
from rudder.plan import Plan
from rudder.policies import (
    LOOKAHEAD,
    SCORE,
    STATIC_FREQUENCY,
    PolicySettings,
    among,
    needs_own_prior,
    own_prior,
)
from rudder.replay.cost import WindowMemory, rows_at_equal_memory, seconds_per_step, window_memory
from rudder.replay.load import Case, Live, load_case
from rudder.replay.outcome import Outcome
from rudder.replay.settings import (
    DEFAULT_CAPACITIES,
    DEFAULT_POLICIES,
    MARKS,
    Capacity,
    Request,
    Window,
    parse_capacity,
    share_of,
)
from rudder.replay.steered import replay_by_frequency, replay_on_demand
from rudder.trace import Worth

#: Bytes of a row where neither the request nor the trace says: 384 floats.
ROW_BYTES = 1536


def replay_files(paths: Sequence[Path], request: Request, jobs: int = 0) -> list[Outcome]:
    """Replay every file, in the order given; ``jobs`` at once (0: as many as there are cores).

    Raises ConfigError, FormatError, the first that any file meets.
    """
    jobs = min(len(paths), jobs or os.cpu_count() or 1)
    if jobs <= 1:
        return [outcome for path in paths for outcome in _replay_file(path, request)]
    # spawn: a fork would carry along locks of whatever threads the caller runs.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        results = pool.map(_replay_file, paths, [request] * len(paths))
        return [outcome for outcomes in results for outcome in outcomes]


def _replay_file(path: Path, request: Request) -> list[Outcome]:
    return replay_case(load_case(path), request)


def row_bytes_of(case: Case, request: Request) -> int:
    """Bytes of a row: as the request says, else as recorded, else 1536."""
    return request.costs.row_bytes or case.row_bytes or ROW_BYTES


def capacities_of(case: Case, request: Request) -> list[Capacity]:
    """The capacities asked for, else that of the live run, else the defaults. Raises ConfigError."""
    if not request.capacities and case.live is not None:
        rows = case.live.capacity_rows
        return [Capacity(rows, share_of(rows, case.halo_rows))]
    return [
        parse_capacity(text, halo_rows=case.halo_rows, rows=case.rows, row_bytes=row_bytes_of(case, request))
        for text in request.capacities or DEFAULT_CAPACITIES
    ]


def policies_of(case: Case, request: Request) -> tuple[str, ...]:
    """The policies asked for, else that of the live run, else the defaults."""
    return request.policies or ((case.live.policy,) if case.live is not None else DEFAULT_POLICIES)


def windows_of(case: Case, request: Request) -> tuple[Window, ...]:
    """The windows asked for, else that of the live run, else four buffers."""
    return request.windows or (Window(buffers=case.live.plan.window if case.live is not None else 4.0),)


def replay_case(case: Case, request: Request, capacities: Sequence[Capacity] | None = None) -> list[Outcome]:
    """Replay one trace under every setting; ``capacities`` take the place of the request's."""
    if capacities is None:
        capacities = capacities_of(case, request)
    outcomes = []
    for capacity, least in zip(capacities, case.min_rows([each.rows for each in capacities])):
        for policy in policies_of(case, request):
            for window in windows_of(case, request) if policy == LOOKAHEAD else (None,):
                outcomes.append(_replay_one(case, request, policy, capacity, window, least))
    return outcomes


def _replay_one(
    case: Case, request: Request, policy: str, capacity: Capacity, window: Window | None, min_rows: int
) -> Outcome:
    costs, row_bytes = request.costs, row_bytes_of(case, request)
    rows, memory = capacity.rows, WindowMemory()
    if window is not None:
        if request.equal_memory:
            rows = rows_at_equal_memory(case.offsets, window, rows, costs, row_bytes)
        memory = window_memory(case.offsets, window, rows, costs)
    live = is_live(case, request, policy, rows, window)
    if live is not None:
        answer = replay_live(live)
    elif policy in MARKS:
        answer = _mark(case, policy, rows)
    else:
        answer = run_policy(case, request, policy, rows, window)
    steps = max(1, len(case))
    return Outcome(
        trace=case.name,
        policy=policy,
        capacity_fraction=capacity.fraction,
        capacity_rows=capacity.rows,
        window=window.as_json() if window is not None else None,
        rows_moved=answer["rows_moved"],
        replacement_rows=answer["replacement_rows"],
        rows_requested=answer["rows_requested"],
        rows_hit=answer["hits"],
        rows_staged=answer["merged"],
        min_rows=min_rows if live is None or live.one_capacity else None,
        buffer_rows=rows,
        minibatches=len(case),
        seconds_per_step=seconds_per_step(
            costs,
            answer["rows_moved"] / steps,
            row_bytes,
            compute=_first(costs.compute, case.training),
            sampling=_first(costs.sampling, case.sampling),
        ),
        memory=memory,
        live=live is not None,
        truncated=case.truncated,
    )


def is_live(case: Case, request: Request, policy: str, capacity: int, window: Window | None) -> Live | None:
    """The recorded run, where these are the settings that it began with: then its log is replayed."""
    live = case.live
    if live is None or policy != live.policy or capacity != live.capacity_rows or not request.as_recorded:
        return None
    return live if window is None or window == Window(buffers=live.plan.window) else None


def replay_live(live: Live) -> dict[str, int]:
    """Exactly the rows of the run: every call that its ledger got, in order."""
    calls, priors = live.log()
    return _core.replay_log(
        calls,
        id_space=live.table_rows,
        policy=live.policy,
        capacity=live.capacity_rows,
        depth=live.depth,
        priors=[_core.Prior.from_worth(worth) for worth in priors],
        **live.policy_settings.for_core(),
    )


def hypothetical(case: Case, request: Request) -> Request:
    """The request, with the live run's own settings for whatever it leaves open."""
    if case.live is None:
        return request
    plan, own = case.live.plan, case.live.policy_settings
    return replace(
        request,
        prior=request.prior or ("frequency" if plan.prior == "frequency" else ""),
        half_life=plan.half_life if request.half_life is None else request.half_life,
        interval=plan.interval if request.interval is None else request.interval,
        policy_settings=asdict(replace(own, **request.policy_settings)),
    )


def run_policy(case: Case, request: Request, policy: str, rows: int, window: Window | None) -> dict[str, int]:
    """One policy of the engine with ``rows`` rows. Raises ConfigError where a prior is missing."""
    request = hypothetical(case, request)
    settings = PolicySettings(**request.policy_settings)
    interval, depth = request.interval or Plan().interval, request.staged or 0
    if policy == LOOKAHEAD and window is not None:
        ahead, ahead_rows = window.minibatches, window.rows(rows)
        if request.prior == "frequency":
            return replay_by_frequency(
                case,
                rows,
                half_life=request.half_life or 0,
                interval=interval,
                window=ahead,
                window_rows=ahead_rows,
                depth=depth,
            )
        return _core.replay(
            case.ids,
            case.offsets,
            policy,
            rows,
            prior=case.prior(request.prior),
            window=ahead,
            window_rows=ahead_rows,
            depth=depth,
        )
    prior = None
    if policy == STATIC_FREQUENCY:
        settings = replace(settings, observe=settings.observe or max(1, len(case) // 10))
    elif policy == SCORE:
        prior = _candidates(case, request, settings)
        if settings.period == 0:
            return replay_on_demand(
                case, rows, settings=settings, candidates=prior, interval=interval, depth=depth
            )
    elif needs_own_prior(policy):
        prior = _ranking(case, request, own_prior(policy))
    return _core.replay(case.ids, case.offsets, policy, rows, prior=prior, depth=depth, **settings.for_core())


def _ranking(case: Case, request: Request, own: str) -> Worth | None:
    """What a policy ranks rows by: its own prior, else what was asked for, which is taken for it."""
    asked = "" if request.prior == "frequency" else request.prior  # counts are lookahead's alone
    return case.prior(own if own in case.priors or not asked else asked)


def _candidates(case: Case, request: Request, settings: PolicySettings) -> Worth | None:
    """What `score` takes for a prior, as in a live run: the halo, by worth where it begins with some."""
    if case.halo is None and not settings.prefill:
        return None
    halo = np.ones(len(case.nodes), dtype=np.bool_) if case.halo is None else case.halo > 0
    worth = _ranking(case, request, own_prior(SCORE)) if settings.prefill else None
    return among(np.zeros(len(case.nodes), dtype=np.float32) if worth is None else worth, halo)


def _mark(case: Case, policy: str, rows: int) -> dict[str, int]:
    if policy == "min":
        moved = case.min_rows([rows])[0]
    elif policy == "compulsory":
        moved = _core.compulsory(case.ids, case.offsets)
    else:
        moved = _core.static_oracle(case.ids, case.offsets, rows)
    return {
        "rows_moved": moved,
        "replacement_rows": 0,
        "rows_requested": case.rows_requested,
        "hits": case.rows_requested - moved,
        "merged": 0,
    }


def _first(given: float | None, recorded: float | None) -> float:
    return given if given is not None else recorded if recorded is not None else 0.0
