"""`rudder bench gpu` over the simulated GPU: every way measured, every byte compared."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from rudder.errors import ConfigError, DeviceError

torch = pytest.importorskip("torch")

from rudder.bench import gpu as bench  # noqa: E402

SETTINGS = bench.GpuSettings(
    row_bytes=(20, 64), rows=(50, 200), table_bytes=64 << 10, repeats=3, threads=1, seed=2
)


def test_every_way_is_measured_and_right(simulated: Any) -> None:
    gpu, _ = simulated()
    told: list[str] = []
    results = bench.measure(gpu, bench.WallTimer(), SETTINGS, told.append)
    assert len(told) == 4
    assert [(each.row_bytes, each.rows) for each in results[::14]] == [
        (20, 50),
        (20, 200),
        (64, 50),
        (64, 200),
    ]
    assert all(each.verified for each in results)
    for each in results:
        assert each.milliseconds > 0
        assert each.gigabytes_per_second == pytest.approx(
            each.row_bytes * each.rows / each.milliseconds / 1e6
        )
    first = {each.subject: each for each in results[:14]}
    assert first["device"].ratio_to_copy == pytest.approx(
        first["copy on the device"].milliseconds / first["device"].milliseconds
    )
    assert first["mixed"].speedup == pytest.approx(
        first["index_select + to"].milliseconds / first["mixed"].milliseconds
    )
    assert first["mixed"].ratio_to_copy is None


def test_stock_and_a_whole_batch_are_timed_without_a_copy_on_top(simulated: Any) -> None:
    gpu, _ = simulated()
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 256, (100, 20), dtype=np.uint8)
    table = bench._Table(gpu, bench.WallTimer(), rows, SETTINGS, rng)
    out = gpu.empty(30, (20,), np.uint8)
    out.fill_(0)
    subjects = table._subjects(30, out)
    ids = rng.integers(0, 100, 30)
    for name in ("index_select + to", "a whole batch"):
        got = subjects[name].run(ids, out)
        assert np.array_equal(got.numpy(), rows[ids])
        assert not out.any()
    table.close()


def test_a_batch_beyond_the_cache_is_measured_for_each_size_of_row(simulated: Any) -> None:
    gpu, _ = simulated()
    assert gpu.cache_bytes is None
    results = bench.measure(gpu, bench.WallTimer(), SETTINGS, lambda words: None, also_batches_of=64 * 200)
    shapes = sorted({(each.row_bytes, each.rows) for each in results})
    assert shapes == [(20, 50), (20, 200), (20, 640), (64, 50), (64, 200)]
    # Of 64 KiB, what whole rows fill.
    assert {each.table_bytes for each in results} == {20 * 3276, 64 << 10}
    assert all(each.verified for each in results)


def test_the_goals_are_of_ways_that_are_measured(simulated: Any) -> None:
    from rudder.bench.goals import missed

    gpu, _ = simulated()
    settings = bench.GpuSettings(row_bytes=(1024,), rows=(64,), table_bytes=64 << 10, repeats=1, threads=1)
    results = bench.measure(gpu, bench.WallTimer(), settings, lambda words: None)
    assert not [line for line in missed(results, 64 << 10) if "not judged" in line]


class _FakeCuda:
    """Of torch.cuda, what a timer uses: a GPU that comes to `begin` after so many cycles."""

    def __init__(self, call_cycles: int) -> None:
        self.slept: list[int] = []
        self._call_cycles = call_cycles

    def Event(self, *, enable_timing: bool) -> Any:  # noqa: N802 (torch's name)
        cuda = self

        class Event:
            def record(self) -> None: ...
            def synchronize(self) -> None: ...
            def query(self) -> bool:
                return cuda.slept[-1] < cuda._call_cycles

            def elapsed_time(self, other: Any) -> float:
                return 1.5

        return Event()

    def synchronize(self) -> None: ...
    def _sleep(self, cycles: int) -> None:
        self.slept.append(cycles)


def test_the_gpus_part_is_timed_only_where_all_of_it_was_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = _FakeCuda(call_cycles=3_500_000)
    monkeypatch.setattr("torch.cuda", cuda)
    calls: list[int] = []
    timer = bench.EventTimer()
    assert timer.milliseconds_queued(lambda: calls.append(1)) == 1.5
    assert cuda.slept == [1_000_000, 2_000_000, 4_000_000]
    timer.milliseconds_queued(lambda: calls.append(1))
    assert cuda.slept[3:] == [4_000_000]  # it knows now
    assert len(calls) == 4
    cuda._call_cycles = 1 << 60
    with pytest.raises(DeviceError, match="waits for the GPU"):
        timer.milliseconds_queued(lambda: None)


def test_a_wrong_byte_is_found(simulated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, _ = simulated()
    right = gpu.bytes_of

    def wrong(rows: Any) -> Any:
        made = right(rows).copy()
        made[-1, -1] ^= 1
        return made

    monkeypatch.setattr(gpu, "bytes_of", wrong)
    results = bench.measure(gpu, bench.WallTimer(), SETTINGS, lambda words: None)
    assert not any(each.verified for each in results if each.speedup is not None)


@pytest.mark.parametrize(
    "wrong", [{"row_bytes": ()}, {"rows": (0,)}, {"repeats": 0}, {"table_bytes": 100, "row_bytes": (64,)}]
)
def test_settings_that_cannot_be_measured_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        bench.GpuSettings(**wrong)


def test_without_a_gpu_the_command_says_what_to_do() -> None:
    pytest.importorskip("typer")
    code = (
        "import sys; from rudder import gpu; gpu.why_not = lambda: 'no driver: install one';"
        "sys.argv = ['rudder', 'bench', 'gpu']; from rudder.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr == "rudder: device='cuda' cannot be used: no driver: install one\n"
