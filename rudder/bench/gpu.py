"""Gathers into GPU memory, beside the copies that bound them and the way without Rudder, in one run.

Each turn asks for other rows, into an output that was filled with something else before; every byte is
compared, outside of the clock. Times are of the GPU's own events around everything that a turn queues; "the
GPU's part" leaves out what the CPU does before, which overlaps with a model's step that keeps the GPU busy.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rudder.errors import ConfigError, DeviceError
from rudder.source import ArraySource, Bytes, Ids

if TYPE_CHECKING:
    from rudder.gpu import Gpu

# Seconds of any GPU; no call that only queues takes so long.
_MOST_CYCLES = 1 << 34
# What an output holds before a turn; a row that was not written shows.
_POISON = 0xA5
# Share of the table that another partition has in the whole-batch measurement: most rows are remote, as in a
# cluster.
_REMOTE_SHARE = 0.75
# Subject whose rate each other one's is given as a multiple of.
_BOUND = {
    "device": "copy on the device",
    "device, the GPU's part": "copy on the device",
    "device, by int32": "copy on the device",
    "device, by int64": "copy on the device",
    "pinned": "copy to the device",
    "pinned, the GPU's part": "copy to the device",
    "pinned, by int32": "copy to the device",
    "pinned, by int64": "copy to the device",
}
_STOCK = "index_select + to"


@dataclass(frozen=True)
class GpuSettings:
    """Every combination of row_bytes and rows is measured."""

    row_bytes: tuple[int, ...] = (64, 512, 1024, 4096)
    #: Of a batch.
    rows: tuple[int, ...] = (10_000, 100_000)
    #: Of the table; beyond every cache.
    table_bytes: int = 1 << 30
    repeats: int = 21
    #: Threads that copy rows from memory that is not pinned, and of torch.
    threads: int = 4
    seed: int = 1

    def __post_init__(self) -> None:
        """Raise ConfigError for what cannot be measured."""
        if not self.row_bytes or min(self.row_bytes) < 1 or not self.rows or min(self.rows) < 1:
            raise ConfigError("--row-bytes and --rows: name one or more, each at least 1")
        if self.repeats < 1 or self.threads < 1:
            raise ConfigError("--repeats and --threads must be at least 1")
        if self.table_bytes < 8 * max(self.row_bytes):
            raise ConfigError(f"--table-bytes {self.table_bytes} is less than eight rows")


@dataclass(frozen=True)
class GpuResult:
    """One way to get the rows of a batch onto the GPU; medians over turns."""

    subject: str
    row_bytes: int
    rows: int
    #: That the rows were picked from.
    table_bytes: int
    milliseconds: float
    #: Of the rows' own bytes, for copies as well: each byte is read once and written once.
    gigabytes_per_second: float
    #: As a multiple of the copy that bounds it; None where none does.
    ratio_to_copy: float | None
    #: As a multiple of index_select on the CPU and .to("cuda"); None for the copies.
    speedup: float | None
    verified: bool

    def as_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


class Timer(Protocol):
    """Times what a call queues on torch's present stream."""

    def milliseconds(self, call: Callable[[], None]) -> float:
        """Until the GPU has done it, what the CPU does before it included."""
        ...

    def milliseconds_queued(self, call: Callable[[], None]) -> float:
        """Of the GPU alone: all was queued before it came to it, as behind a training step."""
        ...


class EventTimer:
    """By CUDA events, on torch's present stream."""

    def __init__(self) -> None:
        """Nothing is known yet of how long calls take the CPU."""
        self._cycles = 1_000_000

    def milliseconds(self, call: Callable[[], None]) -> float:
        """From before the call to the end of what it queued."""
        return self._time(call)[0]

    def milliseconds_queued(self, call: Callable[[], None]) -> float:
        """As `milliseconds`, with the GPU kept from it until it is queued; repeats the call until it was.

        Raises DeviceError where it never is: the call itself waits for the GPU.
        """
        while self._cycles <= _MOST_CYCLES:
            took, was_queued = self._time(call, busy_cycles=self._cycles)
            if was_queued:
                return took
            self._cycles *= 2
        raise DeviceError("what was to be queued waits for the GPU: its time alone cannot be told")

    def _time(self, call: Callable[[], None], busy_cycles: int = 0) -> tuple[float, bool]:
        """Milliseconds, and whether the GPU came to the call after all of it was queued."""
        import torch

        cuda: Any = torch.cuda
        begin, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
        cuda.synchronize()
        if busy_cycles:
            cuda._sleep(busy_cycles)  # a kernel of torch's that counts cycles
        begin.record()
        call()
        end.record()
        was_queued = not begin.query()
        end.synchronize()
        return float(begin.elapsed_time(end)), was_queued


class WallTimer:
    """By the wall clock, for GPUs whose work is done when a call returns."""

    def milliseconds(self, call: Callable[[], None]) -> float:
        """Of the call."""
        began = time.perf_counter()
        call()
        return (time.perf_counter() - began) * 1e3

    def milliseconds_queued(self, call: Callable[[], None]) -> float:
        """The same: there is no queue."""
        return self.milliseconds(call)


@dataclass
class _Subject:
    #: The rows of the ids, in `out`, or in a tensor of its own, which it returns.
    run: Callable[[Ids, Any], Any]
    #: Whether the output holds the rows asked for afterwards; a plain copy moves other ones.
    delivers: bool = True
    #: Before the clock starts: puts row numbers where the kernel alone finds them.
    prepare: Callable[[Ids], None] = lambda ids: None
    #: Timed without what the CPU does before the GPU can begin.
    queued: bool = False
    times: list[float] = field(default_factory=list)
    verified: bool = True


def measure(
    gpu: Gpu,
    timer: Timer,
    settings: GpuSettings,
    tell: Callable[[str], None],
    *,
    also_batches_of: int = 0,
) -> list[GpuResult]:
    """Everything, in the order of the settings. Raises ArenaError where the GPU has no room for the table.

    also_batches_of: bytes; for each size of row a batch of at least so many is measured, too.
    """
    rng = np.random.default_rng(settings.seed)
    found: list[GpuResult] = []
    for row_bytes in settings.row_bytes:
        count = settings.table_bytes // row_bytes
        table = rng.integers(0, 256, size=(count, row_bytes), dtype=np.uint8)
        bench = _Table(gpu, timer, table, settings, rng)
        least = -(-also_batches_of // row_bytes)
        for rows in settings.rows if max(settings.rows) >= least else (*settings.rows, least):
            tell(f"{row_bytes} bytes a row, {rows:,} rows a batch")
            found += bench.measure(rows)
        bench.close()
    return found


class _Table:
    """One table, in every kind of memory."""

    def __init__(
        self, gpu: Gpu, timer: Timer, table: Bytes, settings: GpuSettings, rng: np.random.Generator
    ) -> None:
        import torch

        from rudder._core import GatherProbe

        self._gpu, self._timer, self._table, self._settings, self._rng = gpu, timer, table, settings, rng
        self._torch: Any = torch
        torch.set_num_threads(settings.threads)
        self._tensor = torch.from_numpy(table)
        self._probe = GatherProbe(gpu.core, table, settings.threads)
        self._batches = _open_batches(gpu, table, settings)

    def close(self) -> None:
        """Free what it holds."""
        self._batches.close()
        del self._probe

    def measure(self, rows: int) -> list[GpuResult]:
        """Every way, in turns."""
        count, row_bytes = self._table.shape
        out = self._gpu.empty(rows, (row_bytes,), np.uint8)
        subjects = self._subjects(rows, out)
        for number in range(self._settings.repeats + 1):
            ids = self._rng.integers(0, count, size=rows, dtype=np.int64)
            expected = self._table[ids]
            for subject in subjects.values() if number % 2 == 0 else reversed(list(subjects.values())):
                self._turn(subject, ids, out, expected, recorded=number > 0)
        return _results(subjects, row_bytes, rows, self._table.nbytes)

    def _turn(self, subject: _Subject, ids: Ids, out: Any, expected: Bytes, *, recorded: bool) -> None:
        out.fill_(_POISON)
        subject.prepare(ids)
        clock = self._timer.milliseconds_queued if subject.queued else self._timer.milliseconds
        rows = out

        def run() -> None:
            nonlocal rows
            rows = subject.run(ids, out)

        took = clock(run)
        if recorded:
            subject.times.append(took)
        if subject.delivers and subject.verified:
            subject.verified = bool(
                np.array_equal(self._gpu.bytes_of(out if rows is None else rows), expected)
            )

    def _subjects(self, rows: int, out: Any) -> dict[str, _Subject]:
        torch, gpu = self._torch, self._gpu
        total = rows * self._table.shape[1]
        on_device = gpu.empty(total, (), np.uint8)
        in_pinned = torch.empty(total, dtype=torch.uint8, pin_memory=gpu.place != "cpu")

        def gather(tier: str) -> Callable[[Ids, Any], None]:
            return lambda ids, out: self._probe.gather(tier, ids, out.data_ptr(), gpu.streams.current())

        def by_number(tier: str) -> Callable[[Ids, Any], None]:
            return lambda ids, out: self._probe.gather_listed(tier, out.data_ptr(), gpu.streams.current())

        def list_them(wide: bool) -> Callable[[Ids], None]:
            return lambda ids: self._probe.list(ids, wide)

        # Both make their tensor, as a training step has them do: no copy on top, which only benchmarks make.
        def stock(ids: Ids, out: Any) -> Any:
            return self._tensor.index_select(0, torch.from_numpy(ids)).to(gpu.place)

        def batch(ids: Ids, out: Any) -> Any:
            return self._batches[ids]

        flat = out.reshape(-1)
        subjects = {
            "copy on the device": _Subject(lambda ids, out: flat.copy_(on_device), delivers=False),
            "copy to the device": _Subject(
                lambda ids, out: flat.copy_(in_pinned, non_blocking=True), delivers=False
            ),
            _STOCK: _Subject(stock),
            "device": _Subject(gather("device")),
            "device, the GPU's part": _Subject(gather("device"), queued=True),
            "pinned": _Subject(gather("pinned")),
            "pinned, the GPU's part": _Subject(gather("pinned"), queued=True),
            "not pinned": _Subject(gather("pageable")),
            "mixed": _Subject(gather("mixed")),
            "a whole batch": _Subject(batch),
        }
        for tier, wide in (("device", False), ("device", True), ("pinned", False), ("pinned", True)):
            name = f"{tier}, by int{64 if wide else 32}"
            subjects[name] = _Subject(by_number(tier), prepare=list_them(wide))
        return subjects


def _open_batches(gpu: Gpu, table: Bytes, settings: GpuSettings) -> Any:
    """A prefetcher over the table, most of it another partition's, with half of the buffer on the device."""
    from rudder.options import Options
    from rudder.plan import Plan
    from rudder.prefetcher import Prefetcher

    local = round(len(table) * (1 - _REMOTE_SHARE))
    source = ArraySource(table, [0, local, len(table)])
    plan = Plan(device_share=50)
    options = Options(
        capacity=0.5,
        prior="none",
        policy="lru",
        plan=plan,
        device=gpu,
        threads=settings.threads,
        gap_meter=False,
    )
    return Prefetcher(source, options)


def _results(subjects: dict[str, _Subject], row_bytes: int, rows: int, table_bytes: int) -> list[GpuResult]:
    times = {name: statistics.median(subject.times) for name, subject in subjects.items()}
    found = []
    for name, subject in subjects.items():
        bound = times[_BOUND[name]] / times[name] if name in _BOUND else None
        speedup = times[_STOCK] / times[name] if subject.delivers and name != _STOCK else None
        found.append(
            GpuResult(
                name,
                row_bytes,
                rows,
                table_bytes,
                times[name],
                row_bytes * rows / times[name] / 1e6,
                bound,
                speedup,
                subject.verified,
            )
        )
    return found
