"""Recorded accesses become workloads: what was asked for, what it took, and a half for learning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rudder import trace
from rudder.errors import ConfigError
from rudder.pilot.gather import Amount, gather
from rudder.plan import Plan
from rudder.rollout.recorded import BLOCK_BYTES_A_ROW, KINDS, Traces, estimated_link
from rudder.rollout.simulator import Simulator
from rudder.rollout.workload import Workload

STEPS, ROWS, ROW_BYTES = 80, 6000, 128
SAMPLING, TRAINING = 0.004, 0.02
HEADER = {
    "tensor": "features",
    "rank": 0,
    "policy": "lookahead",
    "policy_settings": {},
    "plan": str(Plan(buffer_share=50, prior="degree")),
    "depth": 2,
    "rows": ROWS,
    "remote_rows": ROWS,
    "halo_rows": 0,
    "row_bytes": ROW_BYTES,
    "capacity_rows": 60,
    "local_part": 0,
}


def accesses() -> list[np.ndarray]:
    chance = np.random.default_rng(3)
    return [chance.permutation(np.unique(chance.zipf(1.3, 150) % ROWS)) for _ in range(STEPS)]


def save_run(path: Path, waiting: float = 0.0, *, timed: bool = True) -> Path:
    frames = [trace.MAGIC, trace.header_frame(HEADER)]
    frames.append(trace.prior_frame(np.arange(ROWS, 0, -1, dtype=np.float32)))
    for number, ids in enumerate(accesses()):
        frames += [trace.call_frame("foresee", number, ids)]
        frames += [trace.call_frame("execute", number, np.empty(0, dtype=np.int64))]
        if timed and number != 7:  # one was not recorded
            frames.append(trace.times_frame(number, SAMPLING, waiting / STEPS, TRAINING))
    path.write_bytes(b"".join(frames))
    return path


def save_npz(path: Path) -> Path:
    minibatches = accesses()
    nodes, numbers = np.unique(np.concatenate(minibatches), return_inverse=True)
    np.savez(
        path,
        ids=numbers.astype(np.int32),
        offsets=np.cumsum([0, *map(len, minibatches)]),
        nodes=nodes,
        vip=np.linspace(1, 0, len(nodes), dtype=np.float32),
        degree=np.ones(len(nodes), dtype=np.int32),
        num_halo=len(nodes),
    )
    return path


def only(path: Path, *, held_out: bool, link: float | None = None) -> Workload:
    found = list(Traces((path,), link).workloads(held_out=held_out, seeds=(1,), kinds=KINDS))
    assert len(found) == 1
    return found[0]


def asked(load: Workload) -> list[int]:
    return np.diff(load.offsets).tolist()


def test_a_recorded_run_keeps_its_costs(tmp_path: Path) -> None:
    load = only(save_run(tmp_path / "rank-0.features.trace"), held_out=False, link=1e9)
    assert load.name == "rank-0.features:recorded:0"
    assert load.kind == "recorded"
    assert load.row_bytes == ROW_BYTES
    assert load.compute_s == pytest.approx(np.full(STEPS // 2, TRAINING))  # also the one without times
    assert load.sampling_s == pytest.approx(np.full(STEPS // 2, SAMPLING))
    assert set(load.bandwidth) == {1e9}
    assert set(load.memory_rows) == {120}  # half of the memory was the buffer
    assert load.block_bytes == pytest.approx(BLOCK_BYTES_A_ROW * np.diff(load.offsets))
    assert load.priors == ("degree", "frequency", "none")
    assert load.degree[0] > load.degree[1] > 0


def test_learning_has_the_first_half_and_comparing_the_second(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "small.npz")
    lengths = [len(ids) for ids in accesses()]
    for held_out, half in ((False, lengths[: STEPS // 2]), (True, lengths[STEPS // 2 :])):
        loads = list(Traces((path,)).workloads(held_out=held_out, seeds=(4, 5), kinds=KINDS))
        assert [load.kind for load in loads] == [*KINDS, *KINDS]
        assert all(asked(load) == half for load in loads)
    assert loads[0].name == "small:steady:4h"


def test_costs_that_nobody_recorded_are_drawn_and_drift(tmp_path: Path) -> None:
    run = save_run(tmp_path / "untimed.trace", timed=False)
    for path in (save_npz(tmp_path / "small.npz"), run):
        loads = Traces((path,)).workloads(held_out=False, seeds=(1,), kinds=("memory", "phases", "bandwidth"))
        memory, bandwidth = loads  # what accesses do is recorded: "phases" is none of these
        assert memory.memory_rows.min() < memory.memory_rows.max()
        assert bandwidth.bandwidth.min() < bandwidth.bandwidth.max()
        (again,) = Traces((path,)).workloads(held_out=False, seeds=(1,), kinds=("memory",))
        assert np.array_equal(again.memory_rows, memory.memory_rows)


@pytest.mark.parametrize("speed", [1e5, 2e5])
def test_the_link_is_that_on_which_the_model_waits_as_long(tmp_path: Path, speed: float) -> None:
    path = save_run(tmp_path / "run.trace")
    load = only(path, held_out=False, link=speed)
    plan = Plan(buffer_share=50, prior="degree")
    simulator, waited = Simulator(load, plan, shadow=False), 0.0
    while not simulator.done:
        waited += simulator.step(plan).metrics.seconds_stalled_fetching
    assert waited > 0.1 * load.compute_s.sum()
    assert estimated_link(load, plan, waited) == pytest.approx(speed, rel=0.05)


def test_a_run_that_waited_longer_had_a_slower_link(tmp_path: Path) -> None:
    hardly, much = (
        only(save_run(tmp_path / f"{waiting}.trace", waiting), held_out=True) for waiting in (0.01, 2.0)
    )
    assert much.bandwidth[0] < 0.5 * hardly.bandwidth[0]


def test_decisions_of_both_forms_can_be_learned_from(tmp_path: Path) -> None:
    traces = Traces((save_run(tmp_path / "run.trace"), save_npz(tmp_path / "small.npz")))
    found = gather(Amount(0, 1, held_out=True, traces=traces), 1, lambda words: None)
    assert {example.source.partition(":")[0] for example in found} == {"run", "small"}


def test_what_cannot_be_a_workload_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no trace at"):
        list(Traces((tmp_path / "missing.npz",)).workloads(held_out=True, seeds=(1,), kinds=KINDS))
    with pytest.raises(ConfigError, match="above 0"):
        Traces((tmp_path,), link=0.0)
    with pytest.raises(ConfigError, match="name them"):
        Traces.named(None, "1GiB")
    named = Traces.named([tmp_path], "1MiB")
    assert named is not None
    assert named.link == 1 << 20
    assert Traces.named(None) is None


def test_shared_traces_are_workloads(shared: Callable[[str], Path]) -> None:
    folder = shared("traces")
    loads = list(Traces((folder,)).workloads(held_out=True, seeds=(1,), kinds=("steady",)))
    assert len(loads) == len(list(folder.glob("*.npz")))
    for load in loads:
        simulator = Simulator(load, Plan(interval=16), shadow=False)
        metrics = simulator.step(Plan(interval=16)).metrics
        assert 0 < metrics.rows_moved <= metrics.rows_requested
