"""Rows on a real GPU: what the tests over the simulated one show, and what only a real one can show."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from profiles import PROFILED, WARM, waits_of

from rudder import ArraySource, Options, Plan, Prefetcher
from rudder.bench import gpu as bench
from rudder.gpu import open_gpu, why_not

torch: Any = pytest.importorskip("torch")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(why_not() is not None, reason=f"no GPU: {why_not()}"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this torch has no CUDA"),
]

STARTS = [0, 3000, 7000, 10_000]


def table_of(dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    return (np.random.default_rng(3).standard_normal((10_000, *shape)) * 50).astype(dtype)


def open_table(rows: NDArray[Any], **options: Any) -> Prefetcher:
    source = ArraySource(rows, STARTS, 1)
    return Prefetcher(source, Options(**{"prior": "none", "device": "cuda", **options}))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8", "bool", "int64"])
@pytest.mark.parametrize("shape", [(), (7,), (100,), (2, 3), (301,)])
def test_any_dtype_and_row_shape(dtype: str, shape: tuple[int, ...]) -> None:
    rows = table_of(dtype, shape)
    rng = np.random.default_rng(4)
    with open_table(rows, plan=Plan(device_share=50)) as table:
        for ids in table.iterate([rng.integers(0, 10_000, 600) for _ in range(12)], epochs=1):
            got = table[ids]
            assert got.is_cuda
            assert got.cpu().numpy().tobytes() == rows[ids].tobytes()
        extra = rng.integers(0, 10_000, 1)
        assert table[extra].cpu().numpy().tobytes() == rows[extra].tobytes()


def test_rows_come_in_the_order_of_the_callers_stream() -> None:
    rows = table_of("float32", (128,))
    rng = np.random.default_rng(5)
    with open_table(rows, plan=Plan(device_share=100)) as table:
        stream = torch.cuda.Stream()
        kept = []
        with torch.cuda.stream(stream):
            for ids in table.iterate([rng.integers(0, 10_000, 2000) for _ in range(60)], epochs=1):
                torch.cuda._sleep(2_000_000)  # about a millisecond: the GPU falls behind
                kept.append((ids, table[ids] + 0))
        for ids, got in kept:
            assert np.array_equal(got.cpu().numpy(), rows[ids])


def test_the_device_tier_is_used_resized_and_given_back() -> None:
    rows = table_of("float32", (256,))
    rng = np.random.default_rng(6)
    hot = rng.integers(0, 10_000, 2000)
    with open_table(rows, capacity=4000, plan=Plan(device_share=100)) as table:
        for number, _ in enumerate(table.iterate([hot] * 30, epochs=1)):
            assert np.array_equal(table[hot].cpu().numpy(), rows[hot])
            if number == 15:
                assert table.metrics().device_bytes == 4000 * 1024
                table.replan(device_share=0)
        total = table.metrics()
        assert total.rows_hit_on_device > 0
        assert total.device_bytes == 0


def test_written_rows_are_seen() -> None:
    rows = table_of("float32", (32,))
    ids = np.arange(0, 10_000, 5)
    with open_table(rows, capacity=1.0, plan=Plan(device_share=100)) as table:
        for number, _ in enumerate(table.iterate([ids] * 12, epochs=1)):
            rows[ids[number]] += 1
            table.invalidate([ids[number]])
            assert np.array_equal(table[ids].cpu().numpy(), rows[ids])


def test_the_memory_of_rows_is_pinned_or_says_why_not() -> None:
    with open_table(table_of("float32", (128,))) as table:
        memory: dict[str, Any] = table._description()["memory"]
    print(json.dumps(memory))
    assert memory["pinned"] != bool(memory["pin_refusal"])


@pytest.mark.parametrize("announced", [True, False])
def test_a_step_waits_for_nothing(announced: bool) -> None:
    """Of `table.iterate`, whose rows are gathered ahead; and `table[ids]` of ids that nobody announced."""
    rows = table_of("float32", (128,))
    rng = np.random.default_rng(7)
    weights = torch.randn(128, 128, device="cuda")
    steps = WARM + PROFILED + 10
    minibatches = [rng.integers(0, 10_000, 4000) for _ in range(steps)]
    with open_table(rows, plan=Plan(device_share=50)) as table:
        total = torch.zeros((), device="cuda")
        ids = iter(table.iterate(minibatches, epochs=1) if announced else minibatches)

        def step() -> None:
            nonlocal total
            total = total + (table[next(ids)] @ weights).sum()

        assert waits_of(step) == {}


def test_the_benchmark_finds_every_byte_right() -> None:
    settings = bench.GpuSettings(
        row_bytes=(4, 100, 512, 602, 4096), rows=(1, 3000), table_bytes=16 << 20, repeats=3
    )
    results = bench.measure(open_gpu("cuda"), bench.EventTimer(), settings, lambda words: None)
    assert [each for each in results if not each.verified] == []
