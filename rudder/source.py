"""Where feature rows come from: a table in partitions, one of which is here and the rest with peers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rudder.agent.job import JobFacts
from rudder.errors import ConfigError, IdError

if TYPE_CHECKING:
    from rudder._core import Transport

Ids = NDArray[np.int64]
Bytes = NDArray[np.uint8]
#: Computes the worth of every row, float32 [rows of the table].
PriorBuilder = Callable[[], NDArray[np.float32]]


class FeatureSource(Protocol):
    """A table of feature rows split into partitions of consecutive ids.

    Inherit from it and fill the attributes; `pull` alone is enough for a source whose peers are reached by
    Python.
    """

    #: Name in metrics and messages.
    name: str
    #: Shape of one row (empty for one number a row), its element type (anything) and its size in bytes (> 0).
    row_shape: tuple[int, ...]
    dtype: Any
    row_bytes: int
    #: int64 [P+1]: partition p owns the ids part_starts[p] <= id < part_starts[p+1].
    part_starts: Ids
    #: The partition that lives here, and its rows as uint8 [rows, row_bytes] (None where it has none).
    local_part: int
    local_rows: Bytes | None
    #: Rows that a capacity given as a fraction refers to: the partition's halo.
    halo_rows: int
    #: By partition, where `pull` gets its rows from, for messages ("10.0.0.2:30050"); empty: not known.
    places: Sequence[str] = ()
    #: Finds the halo: ids of rows that others own and this partition's graph has. None: not known.
    halo_ids: Callable[[], Ids] | None = None
    #: What the source knows of the job, its own rows left out: for language models to read.
    job: JobFacts = JobFacts()
    #: Ways to compute a prior, by name ("vip", "degree").
    priors: Mapping[str, PriorBuilder]

    def pull(self, ids: Ids) -> Bytes:
        """The rows of any ids, uint8 [n, row_bytes], straight from their owners: what `verify` compares with.

        May be called from any thread.
        """
        ...

    def routes(self, table: int) -> Sequence[Sequence[Transport]]:
        """For each partition its transports, best first; the local one's is empty."""
        return pull_routes(self, table)


def pull_routes(source: FeatureSource, table: int, name: str = "pull") -> list[list[Transport]]:
    """Routes that fetch every remote row by the source's own `pull`, as a transport of that name."""
    from rudder._core import CallbackTransport

    starts = np.asarray(source.part_starts, dtype=np.int64)

    def pull(asked: int, parts: Ids, local_rows: Ids) -> Bytes:
        if asked != table:
            raise ConfigError(f"transport of table {table} was asked for table {asked}")
        return source.pull(starts[parts] + local_rows)

    transport: Transport = CallbackTransport(name, pull, source.places)
    return [[] if part == source.local_part else [transport] for part in range(len(starts) - 1)]


def as_rows(array: NDArray[Any]) -> Bytes:
    """A C-contiguous array [n, ...] seen as uint8 [n, row_bytes], without a copy."""
    if not array.flags.c_contiguous:
        raise ConfigError("rows must lie C-contiguous in memory; use numpy.ascontiguousarray")
    row_bytes = array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))
    return array.reshape(-1).view(np.uint8).reshape(len(array), row_bytes)


def as_ids(ids: Any, rows: int) -> Ids:
    """Ids as C-contiguous int64 [n]: integers only, each in [0, rows). Raises IdError."""
    array = np.asarray(ids)
    if array.size == 0:
        return np.empty(0, dtype=np.int64)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise IdError(f"ids must be integers in one dimension, not {array.dtype} of shape {array.shape}")
    array = np.ascontiguousarray(array, dtype=np.int64)
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= rows:
        raise IdError(f"id {low if low < 0 else high} is outside of the table of {rows} rows")
    return array


class ArraySource(FeatureSource):
    """Partitions held in this process: for tests, and for trying policies and plans without a cluster."""

    def __init__(
        self,
        rows: NDArray[Any],
        part_starts: Sequence[int] | Ids,
        local_part: int = 0,
        *,
        name: str = "features",
        halo_rows: int | None = None,
        halo_ids: Ids | None = None,
        priors: Mapping[str, PriorBuilder] | None = None,
    ) -> None:
        """``rows`` [N, ...] of any dtype; partition p owns rows part_starts[p] to part_starts[p+1].

        ``halo_rows`` defaults to as many as there are ``halo_ids``, or to all remote rows. The array is not
        copied: after writing to it, call `Prefetcher.invalidate` with the ids that changed.
        """
        starts = np.asarray(part_starts, dtype=np.int64)
        if len(starts) < 2 or starts[0] != 0 or starts[-1] != len(rows) or bool(np.any(np.diff(starts) < 0)):
            raise ConfigError(f"part_starts {starts.tolist()} must ascend from 0 to {len(rows)}, the rows")
        if not 0 <= local_part < len(starts) - 1:
            raise ConfigError(f"local_part {local_part} must be one of the {len(starts) - 1} partitions")
        self.array = rows
        self.bytes = as_rows(rows)
        self.name = name
        self.row_shape = rows.shape[1:]
        self.dtype = rows.dtype
        self.row_bytes = self.bytes.shape[1]
        self.part_starts = starts
        self.local_part = local_part
        self.local_rows = self.bytes[starts[local_part] : starts[local_part + 1]]
        self.halo_ids = None if halo_ids is None else lambda: halo_ids
        every = len(rows) - len(self.local_rows) if halo_ids is None else len(halo_ids)
        self.halo_rows = every if halo_rows is None else halo_rows
        self.priors = dict(priors or {})

    def pull(self, ids: Ids) -> Bytes:
        """The rows of ``ids``, copied."""
        return self.bytes[ids]

    def routes(self, table: int) -> Sequence[Sequence[Transport]]:
        """Loopback to every other partition."""
        from rudder._core import LoopbackTransport

        transport = LoopbackTransport()
        parts = range(len(self.part_starts) - 1)
        for part in parts:
            transport.expose(part, table, self.bytes[self.part_starts[part] : self.part_starts[part + 1]])
        return [[] if part == self.local_part else [transport] for part in parts]
