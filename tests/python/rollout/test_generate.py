"""Generated workloads follow from their seed, are well-formed, and change as their kind says."""

from __future__ import annotations

import numpy as np
import pytest

from rudder.rollout.generate import KINDS, workload
from rudder.rollout.workload import Workload


@pytest.fixture(scope="module")
def made() -> dict[str, Workload]:
    return {kind: workload(kind, 1) for kind in KINDS}


def rows(some: Workload, begin: int, end: int) -> np.ndarray:
    return some.ids[some.offsets[begin] : some.offsets[end]]


def counts(some: Workload, begin: int, end: int) -> np.ndarray:
    return np.bincount(rows(some, begin, end), minlength=some.id_space).astype(float)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_well_formed(made: dict[str, Workload], kind: str) -> None:
    some = made[kind]
    assert some.kind == kind
    for values in (some.sampling_s, some.compute_s, some.bandwidth, some.latency_s, some.block_bytes):
        assert values.shape == (len(some),)
        assert (values > 0).all()
    assert some.memory_rows.min() >= 64
    assert some.memory_rows.max() < len(np.unique(some.ids))
    assert 0 <= some.ids.min() <= some.ids.max() < some.id_space
    assert [first for first, _ in some.vip] == sorted({first for first, _ in some.vip})
    assert some.vip[0][0] == 0
    for minibatch in range(0, len(some), 50):
        ids = rows(some, minibatch, minibatch + 1)
        assert len(ids) == len(np.unique(ids)) > 0


def test_the_same_seed_gives_the_same_workload_and_others_do_not() -> None:
    one, again, held_out, other = (
        workload("phases", 5),
        workload("phases", 5),
        workload("phases", 5, held_out=True),
        workload("phases", 6),
    )
    assert np.array_equal(one.ids, again.ids)
    assert np.array_equal(one.latency_s, again.latency_s)
    assert held_out.id_space >= 22_000 > 20_000 >= one.id_space
    assert one.id_space != other.id_space
    assert one.name != held_out.name


def test_each_kind_changes_what_it_says(made: dict[str, Workload]) -> None:
    changing = {kind: set() for kind in KINDS}
    for kind, some in made.items():
        first, last = counts(some, 0, 100), counts(some, len(some) - 100, len(some))
        if first @ last < 0.8 * np.linalg.norm(first) * np.linalg.norm(last):
            changing[kind].add("rows")
        if some.bandwidth.min() < some.bandwidth.max():
            changing[kind].add("bandwidth")
        if some.memory_rows.min() < some.memory_rows.max():
            changing[kind].add("memory")
        if len(some.vip) > 1:
            changing[kind].add("vip")
    assert changing["steady"] == set()
    assert changing["phases"] == changing["sliding"] == {"rows", "vip"}
    assert changing["fanout"] == {"vip"}
    assert changing["bandwidth"] == {"bandwidth"}
    assert changing["memory"] == {"memory"}


def test_a_prior_computed_in_a_phase_knows_that_phase(made: dict[str, Workload]) -> None:
    some = made["phases"]
    second = some.vip[1][0]
    seen = np.unique(some.ids)
    now = counts(some, second, second + 64)[seen]

    def likeness(minibatch: int) -> float:
        return float(np.corrcoef(now, some.vip_at(minibatch)[seen])[0, 1])

    assert likeness(second) > likeness(second - 1) + 0.1
