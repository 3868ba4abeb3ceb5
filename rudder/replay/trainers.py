"""Several trainers of one host: a buffer for each, or one of the same memory that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rudder.errors import ConfigError
from rudder.replay.load import Case
from rudder.replay.outcome import Outcome
from rudder.replay.run import (
    capacities_of,
    hypothetical,
    policies_of,
    replay_case,
    windows_of,
)
from rudder.replay.settings import Capacity, Request
from rudder.source import Ids
from rudder.trace import Worth


def merge(cases: Sequence[Case]) -> Case:
    """All trainers' accesses as those of one: minibatch by minibatch in turn, over the rows of all.

    The worth of a row is the sum of what it is to each trainer (VIP: how often it is requested).
    """
    nodes = np.unique(np.concatenate([case.nodes for case in cases]))
    places = [np.searchsorted(nodes, case.nodes) for case in cases]
    turns = sorted(
        (minibatch, trainer) for trainer, case in enumerate(cases) for minibatch in range(len(case))
    )
    parts = [np.empty(0, dtype=np.int64)]
    for minibatch, trainer in turns:
        case = cases[trainer]
        parts.append(places[trainer][case.ids[case.offsets[minibatch] : case.offsets[minibatch + 1]]])
    priors = {
        name: _sum([case.priors[name] for case in cases], places, len(nodes))
        for name in cases[0].priors
        if all(name in case.priors for case in cases)
    }
    halo: Worth | None = None
    if all(case.halo is not None for case in cases):
        halo = _sum([case.halo for case in cases if case.halo is not None], places, len(nodes))
    return Case(
        name="+".join(case.name for case in cases),
        ids=np.concatenate(parts),
        offsets=np.cumsum([0, *(len(part) for part in parts[1:])], dtype=np.int64),
        nodes=nodes,
        rows=max(len(nodes), *(case.rows for case in cases)),
        halo_rows=sum(case.halo_rows for case in cases),
        halo=None if halo is None else np.minimum(halo, 1).astype(np.float32),
        priors=priors,
        row_bytes=cases[0].row_bytes,
        sampling=cases[0].sampling,
        training=cases[0].training,
    )


def replay_trainers(cases: Sequence[Case], request: Request) -> list[Outcome]:
    """Each setting twice: buffers of their own (rows summed), and one shared buffer of as many rows in all.

    Raises ConfigError where the traces cannot be of one host.
    """
    if len(cases) < 2:
        raise ConfigError("--trainers wants the traces of two trainers or more")
    parts = {case.local_part for case in cases if case.local_part is not None}
    if len(parts) > 1:
        raise ConfigError(
            f"trainers of one host share a buffer; these traces are of partitions {sorted(parts)}"
        )
    if request.prior not in ("", "vip", "degree", "frequency", "none", "recency"):
        raise ConfigError("--trainers takes priors by name")
    for what, values in (
        ("policies", {policies_of(case, request) for case in cases}),
        ("windows", {windows_of(case, request) for case in cases}),
        ("settings", {str(hypothetical(case, request)) for case in cases}),
    ):
        if len(values) > 1:
            raise ConfigError(f"the traces were recorded with different {what}: give them as options")
    first = cases[0]
    shared_request = replace(
        hypothetical(first, request), policies=policies_of(first, request), windows=windows_of(first, request)
    )
    capacities = [capacities_of(case, request) for case in cases]
    private = [
        replay_case(replace(case, live=None), shared_request, rows) for case, rows in zip(cases, capacities)
    ]
    together = merge(cases)
    # One setting is the same share of each trainer's halo, and so of all together.
    sums = [Capacity(sum(each.rows for each in own), own[0].fraction) for own in zip(*capacities)]
    shared = replay_case(together, shared_request, sums)
    outcomes: list[Outcome] = []
    for own, common in zip(zip(*private), shared):
        outcomes += [_summed(together.name, own), replace(common, sharing="shared")]
    return outcomes


def _summed(name: str, parts: Sequence[Outcome]) -> Outcome:
    memory = parts[0].memory
    return replace(
        parts[0],
        trace=name,
        capacity_rows=sum(part.capacity_rows for part in parts),
        buffer_rows=sum(part.buffer_rows for part in parts),
        rows_moved=sum(part.rows_moved for part in parts),
        replacement_rows=sum(part.replacement_rows for part in parts),
        rows_requested=sum(part.rows_requested for part in parts),
        rows_hit=sum(part.rows_hit for part in parts),
        rows_staged=sum(part.rows_staged for part in parts),
        # Private buffers are replayed with one capacity from begin to end, so that each has a MIN.
        min_rows=sum(part.min_rows or 0 for part in parts),
        minibatches=sum(part.minibatches for part in parts),
        seconds_per_step=max(part.seconds_per_step for part in parts),
        memory=replace(
            memory,
            requests=sum(part.memory.requests for part in parts),
            minibatches=sum(part.memory.minibatches for part in parts),
            id_bytes=sum(part.memory.id_bytes for part in parts),
            block_bytes=sum(part.memory.block_bytes for part in parts),
        ),
        sharing="private",
    )


def _sum(worths: Sequence[Worth], places: Sequence[Ids], rows: int) -> np.ndarray:
    total = np.zeros(rows, dtype=np.float32)
    for worth, place in zip(worths, places):
        total[place] += worth
    return total
