"""Rows traded between GPUs over NCCL: every rank asks the others for random rows of theirs, all at once.

Ranks are in step when the clock starts, so what is timed is the exchange: counts, row numbers and rows, until
the rows are in GPU memory. Each turn asks for other rows; every byte is compared, outside of the clock.
"""

from __future__ import annotations

import json
import os
import statistics
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from rudder.bench.gpu import EventTimer, GpuSettings, Timer
from rudder.bench.rows import fill, rows_at
from rudder.errors import ConfigError, RudderError, TransportError
from rudder.nccl import Exchange, why_not
from rudder.nccl.mesh import Store
from rudder.source import Bytes, Ids

#: Where shards lie.
PLACES = ("on the GPU", "in pinned memory")


@dataclass(frozen=True)
class ExchangeResult:
    """Shards in one kind of memory; medians over turns."""

    subject: str
    ranks: int
    row_bytes: int
    #: That each rank asks the others for.
    rows: int
    #: Of the slowest rank in each turn.
    milliseconds: float
    #: That each rank gets from the others.
    gigabytes_per_second: float
    #: Who gathers the rows that others ask for: see `rudder.nccl.Exchange.serving`.
    serving: str
    #: "events" of the GPU, or "wall clock".
    timed_by: str
    #: By every rank.
    verified: bool

    def as_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


class Place(Protocol):
    """The GPU of a rank, and memory that it reaches."""

    #: Its number.
    device: int
    timer: Timer
    timed_by: str

    def why_not(self) -> str | None:
        """Why it cannot be used; None where it can."""
        ...

    def hold(self, rows: Bytes, where: str) -> Any:
        """A copy of the rows in one of PLACES."""
        ...

    def empty(self, rows: int, row_bytes: int) -> Any:
        """GPU memory for so many rows."""
        ...

    def fill(self, rows: Any, value: int) -> None:
        """Set every byte of what `empty` made."""
        ...

    def bytes_of(self, rows: Any) -> Bytes:
        """A copy in main memory; waits for the GPU."""
        ...


class TorchPlace:
    """A GPU by torch."""

    timed_by = "events"

    def __init__(self, local_rank: int) -> None:
        """``local_rank``: among the ranks of this host; its GPU's number, unless each rank sees its own."""
        import torch

        self._torch: Any = torch
        self._here = bool(torch.cuda.is_available())
        self.device = 0 if self._here and torch.cuda.device_count() == 1 else local_rank
        self.timer: Timer = EventTimer()
        if self._here and local_rank < torch.cuda.device_count():
            torch.cuda.set_device(self.device)

    def why_not(self) -> str | None:
        """No CUDA in torch."""
        return None if self._here else f"this torch ({self._torch.__version__}) has no GPU"

    def hold(self, rows: Bytes, where: str) -> Any:
        """By torch's allocators."""
        tensor = self._torch.from_numpy(rows)
        return tensor.pin_memory() if where == "in pinned memory" else tensor.to(f"cuda:{self.device}")

    def empty(self, rows: int, row_bytes: int) -> Any:
        """uint8 [rows, row_bytes]."""
        return self._torch.empty((rows, row_bytes), dtype=self._torch.uint8, device=f"cuda:{self.device}")

    def fill(self, rows: Any, value: int) -> None:
        """In the present stream."""
        rows.fill_(value)

    def bytes_of(self, rows: Any) -> Bytes:
        """By .cpu()."""
        copied: Bytes = rows.cpu().numpy()
        return copied


def open_place(local_rank: int) -> Place:
    """The GPU of this rank."""
    return TorchPlace(local_rank)


@dataclass(frozen=True)
class Ranks:
    """Who takes part, and what they meet through."""

    store: Store
    rank: int
    count: int

    def say_all(self, what: str, value: Any) -> list[Any]:
        """What every rank says under this name, by rank; ``what`` is used once."""
        self.store.set(f"rudder/bench/{what}/{self.rank}", json.dumps(value).encode())
        return [json.loads(self.store.get(f"rudder/bench/{what}/{rank}")) for rank in range(self.count)]

    def part(self) -> None:
        """Leave; the rank that keeps the store goes last."""
        self.store.set(f"rudder/bench/left/{self.rank}", b"1")
        for rank in range(self.count if self.rank == 0 else 0):
            self.store.get(f"rudder/bench/left/{rank}")


def ranks_here() -> int:
    """Ranks of the job that started this process; 1 where none did."""
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(f"WORLD_SIZE={text!r} must be a number of ranks")
    return int(text)


def meet() -> Ranks:
    """Join the other ranks of the job, as torchrun and `rudder launch` describe it. Raises TransportError."""
    from torch.distributed.rendezvous import rendezvous

    try:
        store, rank, count = next(rendezvous("env://"))
    except (RuntimeError, ValueError) as error:
        raise TransportError(f"the ranks of this job do not meet: {error}", -1) from error
    return Ranks(store, rank, count)


def why_absent(ranks: Ranks, place: Place) -> str | None:
    """Why rows cannot be traded, the same on all ranks; None where they can."""
    reasons = ranks.say_all("why", place.why_not() or why_not(place.device))
    found = [f"rank {rank}: {reason}" for rank, reason in enumerate(reasons) if reason]
    return found[0] if found else None


def measure(ranks: Ranks, place: Place, settings: GpuSettings, tell: Any) -> list[ExchangeResult]:
    """Everything, in the order of the settings; every rank calls it, and gets the same.

    Raises ConfigError, TransportError, DeadlineError.
    """
    if ranks.count < 2:
        raise ConfigError("rows are traded between two ranks or more")
    found: list[ExchangeResult] = []
    for row_bytes in settings.row_bytes:
        for where in PLACES:
            tell(f"{row_bytes} bytes a row, shards {where}")
            table = _Table(ranks, place, settings, row_bytes, where)
            try:
                found += [table.measure(rows) for rows in settings.rows]
                table.close()
            except RudderError:
                table.abandon()
                raise
    return found


class _Table:
    """One table, a shard on each rank. Its bytes follow from the seed, so that every rank knows all."""

    def __init__(self, ranks: Ranks, place: Place, settings: GpuSettings, row_bytes: int, where: str) -> None:
        self._ranks, self._place, self._settings = ranks, place, settings
        self._row_bytes, self._where = row_bytes, where
        self._shard_rows = max(1, settings.table_bytes // row_bytes // ranks.count)
        shard = fill(np.empty((self._shard_rows, row_bytes), dtype=np.uint8), settings.seed, ranks.rank)
        self._name = f"{row_bytes} {where}".replace(" ", "-")
        self._exchange = Exchange(
            ranks.store, ranks.rank, ranks.count, place.hold(shard, where),
            device=place.device, name=f"bench-{self._name}",
        )  # fmt: skip
        self._rng = np.random.default_rng([settings.seed, ranks.rank, row_bytes])

    def close(self) -> None:
        """Leave, together with the others."""
        self._exchange.drain()
        self._exchange.close()

    def abandon(self) -> None:
        """Leave, as it is."""
        self._exchange.close()

    def measure(self, rows: int) -> ExchangeResult:
        """Turns of so many rows on each rank; the first is not recorded."""
        out = self._place.empty(rows, self._row_bytes)
        times, verified = [], True
        for number in range(self._settings.repeats + 1):
            ids = self._others_rows(rows)
            self._place.fill(out, 0xA5)
            took, right = self._turn(ids, out)
            verified = verified and right
            if number > 0:
                times.append(took)
        said = self._ranks.say_all(f"{self._name}-{rows}", [times, verified])
        slowest = [max(turn) for turn in zip(*(each for each, _ in said))]
        milliseconds = statistics.median(slowest)
        return ExchangeResult(
            subject=f"NCCL, shards {self._where}",
            ranks=self._ranks.count,
            row_bytes=self._row_bytes,
            rows=rows,
            milliseconds=milliseconds,
            gigabytes_per_second=rows * self._row_bytes / milliseconds / 1e6,
            serving=self._exchange.serving,
            timed_by=self._place.timed_by,
            verified=all(right for _, right in said),
        )

    def _turn(self, ids: Ids, out: Any) -> tuple[float, bool]:
        positions = None

        def trade() -> None:
            nonlocal positions
            _, positions = self._exchange.start(ids, out).grouped()

        self._exchange.rows(ids[:0])  # in step from here
        took = self._place.timer.milliseconds(trade)
        got = self._place.bytes_of(out)
        owners, numbers = np.divmod(ids, self._shard_rows)
        expected = np.empty_like(got)
        for owner in range(self._ranks.count):
            its = owners == owner
            expected[its] = rows_at(numbers[its], self._row_bytes, self._settings.seed, owner)
        return took, np.array_equal(got if positions is None else got[positions], expected)

    def _others_rows(self, rows: int) -> Ids:
        """Random rows of all shards but this rank's."""
        ids = self._rng.integers(0, self._shard_rows * (self._ranks.count - 1), rows, dtype=np.int64)
        ids[ids >= self._shard_rows * self._ranks.rank] += self._shard_rows
        return ids
