"""Replays traces under every setting of a request; files run beside one another in processes of their own."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rudder import _core
from rudder.replay.cost import WindowMemory, rows_at_equal_memory, seconds_per_step, window_memory
from rudder.replay.frequency import replay_by_frequency
from rudder.replay.load import Case, Live, as_prior, load_case
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

# The one policy that looks ahead: a window changes nothing for the others.
LOOKAHEAD = "lookahead"
#: Bytes of a row where neither the request nor the trace says: 384 floats.
ROW_BYTES = 1536
_NO_WINDOW = WindowMemory()


@dataclass(frozen=True)
class Outcome:
    """One policy under one setting on one trace. Rows are summed over all minibatches.

    ``capacity_rows``: the memory given. ``buffer_rows``: what the buffer got of it (less with equal memory).
    ``min_rows``: what MIN moves with all of it. ``sharing``: "private" or "shared" among trainers, or None.
    ``live``: the calls of a recorded run under its own settings. ``truncated``: the trace's file ends early.
    """

    trace: str
    policy: str
    capacity_fraction: float | None
    capacity_rows: int
    window: float | str | None
    rows_moved: int
    replacement_rows: int
    rows_requested: int
    rows_hit: int
    min_rows: int
    buffer_rows: int
    minibatches: int
    seconds_per_step: float
    memory: WindowMemory = _NO_WINDOW
    sharing: str | None = None
    live: bool = False
    truncated: bool = False

    @property
    def times_min(self) -> float | None:
        """Rows moved as a multiple of MIN; None where MIN moves none."""
        return self.rows_moved / self.min_rows if self.min_rows else None

    @property
    def times_none(self) -> float | None:
        """Rows moved as a share of what moves without a buffer; None where nothing was requested."""
        return self.rows_moved / self.rows_requested if self.rows_requested else None

    @property
    def gap_left(self) -> float | None:
        """Share of the way from no buffer to MIN that is left: 0 is MIN, 1 no buffer."""
        gap = self.rows_requested - self.min_rows
        return (self.rows_moved - self.min_rows) / gap if gap else None

    @property
    def hit_rate(self) -> float:
        """Share of the requested rows found in the buffer."""
        return self.rows_hit / self.rows_requested if self.rows_requested else 0.0

    def as_json(self) -> dict[str, Any]:
        """An object of plain values."""
        return {
            "trace": self.trace,
            "policy": self.policy,
            "capacity_fraction": self.capacity_fraction,
            "capacity_rows": self.capacity_rows,
            "window": self.window,
            "rows_moved": self.rows_moved,
            "replacement_rows": self.replacement_rows,
            "rows_requested": self.rows_requested,
            "min_rows": self.min_rows,
            "times_min": _rounded(self.times_min),
            "times_none": _rounded(self.times_none),
            "gap_left": _rounded(self.gap_left),
            "hit_rate": _rounded(self.hit_rate),
            "minibatches": self.minibatches,
            "seconds_per_step": _rounded(self.seconds_per_step, 9),
            "buffer_rows": self.buffer_rows,
            "window_requests": self.memory.requests,
            "window_minibatches": self.memory.minibatches,
            "window_id_bytes": self.memory.id_bytes,
            "window_block_bytes": self.memory.block_bytes,
            "sharing": self.sharing,
            "live": self.live,
            "truncated": self.truncated,
        }


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
    rows, memory = capacity.rows, _NO_WINDOW
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
        min_rows=min_rows,
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
    if live is None or policy != live.policy or capacity != live.capacity_rows or request.prior:
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
        priors=[as_prior(worth) for worth in priors],
    )


def run_policy(case: Case, request: Request, policy: str, rows: int, window: Window | None) -> dict[str, int]:
    """One policy of the engine with ``rows`` rows. Raises ConfigError where a prior is missing."""
    settings: dict[str, Any] = {"depth": request.staged}
    if policy == LOOKAHEAD and window is not None:
        settings.update(window=window.minibatches, window_rows=window.rows(rows))
        if request.prior == "frequency":
            return replay_by_frequency(case, rows, request, **settings)
        settings["prior"] = case.prior(request.prior)
    elif policy in ("static-vip", "static-degree"):
        name = policy[len("static-") :]
        settings["prior"] = case.prior(name if name in case.priors or not request.prior else request.prior)
    elif policy == "static-frequency":
        settings["observe"] = request.observe or max(1, len(case) // 10)
    elif policy == "score":
        # Only rows of the 1-hop halo are ever put in, as in the paper.
        settings.update(prior=case.halo, period=request.period, alpha=request.alpha)
    return _core.replay(case.ids, case.offsets, policy, rows, **settings)


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
    }


def _first(given: float | None, recorded: float | None) -> float:
    return given if given is not None else recorded if recorded is not None else 0.0


def _rounded(value: float | None, digits: int = 6) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, digits)
