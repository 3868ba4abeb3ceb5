"""A trace in memory, of a recorded run or of an .npz file: 4 bytes an access.

Ids are held as row numbers, positions among the distinct ids. While it is read, a recorded trace takes up to
18 bytes an access (ids of 4 or 8 bytes, and a table from them to their numbers).
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rudder.distinct import distinct
from rudder.errors import FormatError
from rudder.source import Ids
from rudder.trace import Halo, Times, TraceFile, Worth

Numbers = NDArray[np.int32]
# A table from ids to row numbers takes 5 bytes per row of the tensor: it is had for at most 10 bytes an
# access, or 80 MiB. Beyond, ids are sorted.
_TABLE_ROWS_PER_ACCESS = 2
_TABLE_ROWS = 1 << 24


@dataclass
class Trace:
    """Minibatch t, in the order of execution, asked for the rows ``numbers[offsets[t]:offsets[t+1]]``.

    ``nodes``: global id of each row; ``numbers`` are positions in it. ``seconds`` float32 [T, 3]: sampling,
    waiting for rows, training, NaN where they were not recorded. Rows that were read without having been
    announced make a minibatch of their own. Of recorded runs: ``header``, ``prior`` (the first that was in
    force, of every row of the table), ``halo`` (its ids, where they are known), ``capacities`` (that plans
    gave the buffer) and ``truncated``. Of .npz files: ``vip``, ``degree`` (of the rows) and ``halo_rows``.
    """

    numbers: Numbers
    nodes: Ids
    offsets: Ids
    seconds: NDArray[np.float32]
    header: dict[str, Any] | None = None
    prior: Worth | None = None
    halo: Ids | None = None
    capacities: frozenset[int] = frozenset()
    truncated: bool = False
    vip: NDArray[np.float32] | None = None
    degree: NDArray[np.float32] | None = None
    halo_rows: int | None = None

    def __len__(self) -> int:
        """Minibatches."""
        return len(self.offsets) - 1

    def __getitem__(self, minibatch: int) -> Ids:
        """The global ids of one minibatch."""
        return self.nodes[self.numbers[self.offsets[minibatch] : self.offsets[minibatch + 1]]]


def read(path: str | os.PathLike[str]) -> Trace:
    """Read a trace file or an .npz trace. Raises FormatError, OSError.

    A file that ends in the middle of a frame is read up to there and marked ``truncated``.
    """
    path = Path(path)
    return _read_npz(path) if path.suffix == ".npz" else _read_log(TraceFile(path))


def _read_log(file: TraceFile) -> Trace:
    rows = file.header.get("rows")
    if not isinstance(rows, int) or rows < 0:
        raise FormatError(f"{file.path}: the header does not say how many rows the table has")
    dtype = np.int32 if rows <= 1 << 31 else np.int64
    asked: list[NDArray[np.integer] | None] = []  # None: dropped before it was used
    executed: list[int] = []  # where in `asked` each minibatch stands
    numbers: dict[int, int] = {}  # the same, by the minibatch's number
    foreseen: dict[int, NDArray[np.integer]] = {}
    seconds: dict[int, Times] = {}
    prior: Worth | None = None
    halo: Ids | None = None
    capacities: set[int] = set()
    for entry in file:
        if isinstance(entry, Times):
            seconds[entry.minibatch] = entry
            continue
        ids = entry.ids
        if isinstance(entry, Halo):
            halo = ids
            continue
        if len(ids) and (ids.min() < 0 or ids.max() >= rows):
            raise FormatError(f"{file.path}: ids reach {ids.max()}, outside of the table's {rows} rows")
        if entry.name == "foresee":
            foreseen[entry.number] = ids.astype(dtype)
        elif entry.name == "execute":
            executed.append(len(asked))
            numbers[entry.number] = len(asked)
            asked.append(foreseen.pop(entry.number, ids.astype(dtype)))
        elif entry.name == "read":  # without having been announced: a request like all others
            asked.append(ids.astype(dtype))
        elif entry.name == "drop":
            foreseen.clear()
            for _ in range(min(entry.number, len(executed))):
                asked[executed.pop()] = None
        elif entry.name == "capacity":
            capacities.add(entry.number)
        elif entry.name == "prior" and prior is None:
            prior = entry.prior
    times = np.full((len(asked), 3), np.nan, dtype=np.float32)
    for number, place in numbers.items():
        if number in seconds:
            times[place] = seconds[number][1:]
    kept = [place for place, ids in enumerate(asked) if ids is not None]
    wanted = [ids for ids in asked if ids is not None]
    asked.clear()
    offsets = np.cumsum([0, *(len(ids) for ids in wanted)], dtype=np.int64)
    nodes, row_numbers = _numbered(wanted, rows)
    return Trace(
        numbers=row_numbers,
        nodes=nodes,
        offsets=offsets,
        seconds=times[kept],
        header=file.header,
        prior=prior,
        halo=halo,
        capacities=frozenset(capacities),
        truncated=file.truncated,
    )


def _numbered(wanted: list[NDArray[np.integer]], rows: int) -> tuple[Ids, Numbers]:
    """The distinct ids, ascending, and all ids as positions in them. Empties ``wanted``."""
    accesses = sum(map(len, wanted))
    numbers = np.empty(accesses, dtype=np.int32)
    table: Numbers | None = None
    if rows <= max(_TABLE_ROWS, _TABLE_ROWS_PER_ACCESS * accesses):
        seen = np.zeros(rows, dtype=bool)
        for ids in wanted:
            seen[ids] = True
        nodes = np.flatnonzero(seen)
        table = np.zeros(rows, dtype=np.int32)
        table[nodes] = np.arange(len(nodes), dtype=np.int32)
    else:
        nodes = _distinct_of(wanted)
    end = accesses
    while wanted:
        ids = wanted.pop()
        begin = end - len(ids)
        numbers[begin:end] = np.searchsorted(nodes, ids) if table is None else table[ids]
        end = begin
    return nodes, numbers


def _distinct_of(arrays: Sequence[NDArray[np.integer]]) -> Ids:
    """Distinct ids of all arrays, by sorting no more at once than twice what is distinct, or a million."""
    nodes: Ids = np.empty(0, dtype=np.int64)
    waiting: list[NDArray[np.integer]] = []
    count = 0
    for ids in arrays:
        waiting.append(ids)
        count += len(ids)
        if count > max(1 << 20, len(nodes)):
            nodes, waiting, count = distinct(np.concatenate([nodes, *waiting])), [], 0
    return distinct(np.concatenate([nodes, *waiting]))


def _read_npz(path: Path) -> Trace:
    try:
        with np.load(path, allow_pickle=False) as archive:
            offsets = archive["offsets"].astype(np.int64, copy=False)
            trace = Trace(
                numbers=archive["ids"].astype(np.int32, copy=False),
                nodes=archive["nodes"].astype(np.int64, copy=False),
                offsets=offsets,
                seconds=np.broadcast_to(np.float32(np.nan), (max(0, len(offsets) - 1), 3)),
                vip=archive["vip"].astype(np.float32, copy=False),
                degree=archive["degree"].astype(np.float32, copy=False),
                halo_rows=int(archive["num_halo"]),
            )
    except (KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise FormatError(f"{path} is not a trace: {error}") from error
    rows, numbers = len(trace.nodes), trace.numbers
    if len(numbers) and (numbers.min() < 0 or numbers.max() >= rows):
        raise FormatError(f"{path}: ids reach from {numbers.min()} to {numbers.max()}, of {rows} nodes")
    if len(distinct(trace.nodes)) != rows:
        raise FormatError(f"{path}: a node is named twice")
    return trace
