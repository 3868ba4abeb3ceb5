"""Rows on a GPU, over the simulated one: what is asked for, when it is there, and what it costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rudder import ArraySource, Options, Plan, Prefetcher
from rudder.errors import ConfigError, DeviceError, IdError

torch = pytest.importorskip("torch")

STARTS = [0, 300, 700, 1000]


def table_of(dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    return (np.random.default_rng(3).standard_normal((1000, *shape)) * 50).astype(dtype)


def open_table(rows: NDArray[Any], gpu: Any, **options: Any) -> Prefetcher:
    source = ArraySource(rows, STARTS, 1)
    return Prefetcher(source, Options(**{"prior": "none", "device": gpu, **options}))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8", "uint8", "bool", "int64"])
@pytest.mark.parametrize("shape", [(), (7,), (2, 3)])
def test_any_dtype_and_row_shape(simulated: Any, dtype: str, shape: tuple[int, ...]) -> None:
    rows = table_of(dtype, shape)
    rng = np.random.default_rng(4)
    gpu, _ = simulated()
    with open_table(rows, gpu) as table:
        for ids in table.iterate([rng.integers(0, 1000, 60) for _ in range(10)]):
            got = table[ids]
            assert isinstance(got, torch.Tensor)
            assert got.shape == (60, *shape)
            assert got.numpy().tobytes() == rows[ids].tobytes()


@pytest.mark.parametrize("kind", [np.int32, np.int64, torch.int32, torch.int64])
def test_ids_of_either_width(simulated: Any, kind: Any) -> None:
    rows = table_of("float32", (4,))
    gpu, _ = simulated()
    made = [np.random.default_rng(seed).integers(0, 1000, 50) for seed in range(6)]
    narrow = [
        each.astype(kind) if isinstance(kind, type) else torch.from_numpy(each).to(kind) for each in made
    ]
    with open_table(rows, gpu) as table:
        for expected, ids in zip(made, table.iterate(narrow, epochs=1)):
            assert np.array_equal(table[ids].numpy(), rows[expected])
        assert np.array_equal(table[narrow[0][:5]].numpy(), rows[made[0][:5]])


def test_nothing_waits_for_the_gpu(simulated: Any) -> None:
    rows = table_of("float32", (4,))
    ids = np.array([5, 999, 300, 5])
    gpu, runtime = simulated("manual")
    with open_table(rows, gpu) as table:
        got = table[ids]
        before = got.clone()
        launches = runtime.launches
        runtime.run()
        assert launches == 1
        assert not np.array_equal(before.numpy(), rows[ids])
        assert np.array_equal(got.numpy(), rows[ids])
        assert runtime.waits == 0


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_rows_stay_until_the_gpu_has_read_them(simulated: Any, data: st.DataObject) -> None:
    """However far the GPU falls behind, and whatever happens to buffer and tier meanwhile."""
    rows = table_of("float32", (4,))
    gpu, runtime = simulated("manual", seed=data.draw(st.integers(0, 1000)))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    share = data.draw(st.sampled_from([0, 25, 100]))
    got = []
    with open_table(rows, gpu, capacity=150, plan=Plan(device_share=share)) as table:
        for ids in table.iterate([rng.integers(0, 1000, 80) for _ in range(25)], epochs=1):
            got.append((ids, table[ids]))
            for _ in range(data.draw(st.integers(0, 6))):
                runtime.step()
            if data.draw(st.integers(0, 9)) == 0:
                table.replan(device_share=data.draw(st.sampled_from([0, 50, 100])))
            if data.draw(st.integers(0, 9)) == 0:
                extra = rng.integers(0, 1000, 30)
                got.append((extra, table[extra]))
        assert runtime.waits == 0
        assert table.metrics().refused_decisions == 0
        runtime.run()
    for ids, tensor in got:
        assert np.array_equal(tensor.numpy(), rows[ids])


def test_rows_of_the_next_minibatch_are_gathered_ahead(simulated: Any) -> None:
    rows = table_of("float32", (4,))
    rng = np.random.default_rng(5)
    gpu, runtime = simulated("manual")
    ahead = 0
    with open_table(rows, gpu) as table:
        for ids in table.iterate([rng.integers(0, 1000, 60) for _ in range(12)], epochs=1):
            runtime.run()
            launches = runtime.launches
            got = table[ids]
            assert runtime.launches == launches  # it was under way before it was asked for
            assert np.array_equal(got.numpy(), rows[ids])
            assert any(tensor is gpu.streams.handed[-1] for tensor in gpu.streams.handed)
            again = table[ids]
            runtime.run()
            assert np.array_equal(again.numpy(), rows[ids])
            ahead += 1
        assert ahead == 12


def test_the_plan_sizes_the_device_tier_and_gives_it_back(simulated: Any) -> None:
    rows = table_of("float32", (4,))
    ids = np.arange(0, 1000, 2)
    gpu, runtime = simulated()
    with open_table(rows, gpu, capacity=400, plan=Plan(device_share=50)) as table:
        for number, _ in enumerate(table.iterate([ids] * 14, epochs=1)):
            assert np.array_equal(table[ids].numpy(), rows[ids])
            if number == 6:
                held = runtime.allocated
                total = table.metrics()
                assert (total.device_rows, total.device_bytes) == (200, 200 * 16)
                assert total.rows_hit_on_device > 0
                table.replan(device_share=0)
        total = table.metrics()
        assert (total.device_rows, total.device_bytes) == (0, 0)
        assert runtime.allocated == held - 200 * 16


def test_written_rows_are_not_handed_over_from_before(simulated: Any) -> None:
    rows = table_of("float32", (4,))
    gpu, _ = simulated()
    with open_table(rows, gpu, capacity=1.0, plan=Plan(device_share=100)) as table:
        for number, ids in enumerate(table.iterate([np.arange(0, 1000, 5)] * 8, epochs=1)):
            rows[ids[number]] += 1  # what was gathered ahead is stale now
            table.invalidate([ids[number]])
            assert np.array_equal(table[ids].numpy(), rows[ids])


def test_verification_covers_the_device(simulated: Any) -> None:
    rows = table_of("float32", (4,))
    gpu, _ = simulated()
    with open_table(rows, gpu, verify=True) as table:
        for ids in table.iterate([np.arange(0, 1000, 3)] * 4, epochs=1):
            table[ids]
        assert table.metrics().verified_rows == 4 * 334


def test_a_refusal_to_pin_is_stated_and_changes_no_row(simulated: Any, tmp_path: Path) -> None:
    rows = table_of("float32", (4,))
    gpu, runtime = simulated()
    runtime.inject(refuse_pinning="RLIMIT_MEMLOCK is 8 MiB")
    with open_table(rows, gpu, metrics_dir=tmp_path) as table:
        ids = np.arange(0, 1000, 3)
        assert np.array_equal(table[ids].numpy(), rows[ids])
    start = json.loads((tmp_path / "rank-0.features.jsonl").read_text().splitlines()[0])
    assert start["memory"]["pinned"] is False
    assert start["memory"]["pin_refusal"] == "RLIMIT_MEMLOCK is 8 MiB"
    assert start["memory"]["local_pin_refusal"] == "RLIMIT_MEMLOCK is 8 MiB"
    assert start["memory"]["gpu"] == "simulated GPU"


def test_a_failed_gpu_is_a_typed_error(simulated: Any) -> None:
    gpu, runtime = simulated()
    with open_table(table_of("float32", (4,)), gpu) as table:
        runtime.inject(fail="the bus fell off")
        with pytest.raises(DeviceError, match="the bus fell off"):
            table[[1, 2]]


def test_what_is_no_id_of_the_table_is_refused(simulated: Any) -> None:
    gpu, _ = simulated()
    with open_table(table_of("float32", (4,)), gpu) as table, pytest.raises(IdError):
        table[[1000]]


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cpu"])
def test_a_device_that_is_no_gpu_is_refused(device: str) -> None:
    with pytest.raises(ConfigError, match="device"):
        open_table(table_of("float32", (4,)), device)


def test_a_gpu_that_cannot_be_used_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from rudder import gpu

    monkeypatch.setattr(gpu, "why_not", lambda: "no driver: install one")
    with pytest.raises(ConfigError, match="cannot be used: no driver: install one"):
        open_table(table_of("float32", (4,)), "cuda")


def test_a_device_share_needs_a_device() -> None:
    with pytest.raises(ConfigError, match="device_share"):
        Options(plan=Plan(device_share=50))
    with Prefetcher(ArraySource(table_of("float32", (4,)), STARTS, 1), Options(prior="none")) as table:
        with pytest.raises(ConfigError, match="device_share"):
            table.replan(device_share=50)
        assert table.plan.device_share == 0


@pytest.mark.parametrize("controller", ["default", "rule"])
def test_controllers_that_know_of_no_gpu_leave_its_share_alone(simulated: Any, controller: str) -> None:
    rows = table_of("float32", (4,))
    rng = np.random.default_rng(6)
    gpu, _ = simulated()
    plan = Plan(device_share=50, interval=4)
    with open_table(rows, gpu, capacity=200, plan=plan, controller=controller) as table:
        for ids in table.iterate([rng.integers(0, 1000, 60) for _ in range(30)], epochs=1):
            assert np.array_equal(table[ids].numpy(), rows[ids])
        assert table.plan.device_share == 50
        assert table.metrics().device_rows == table.metrics().capacity_rows // 2
