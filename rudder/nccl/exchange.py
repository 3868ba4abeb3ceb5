"""Ranks that trade rows in rounds: the Python face of csrc/transport/nccl."""

from __future__ import annotations

import importlib
import itertools
import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rudder.errors import ConfigError, IdError, RudderError
from rudder.nccl import libraries
from rudder.nccl.arrays import Rows, hand_over, take
from rudder.nccl.mesh import Meeting, Store, connect

if TYPE_CHECKING:
    from rudder._core import GpuRuntime
    from rudder._nccl import Round

# Destinations that a lost NCCL may still write to: never freed.
_kept: list[Any] = []


class Pending:
    """Rows of a round that was begun. Not thread-safe."""

    def __init__(self, exchange: Exchange, core: Round, out: Any) -> None:
        """Made by `Exchange.start`."""
        self._exchange, self._core, self._out = exchange, core, out

    @property
    def finished(self) -> bool:
        """Would `rows` return at once? A round that has failed counts as finished."""
        return self._core.finished

    def grouped(self) -> tuple[Any, NDArray[np.int64] | None]:
        """The rows as they came, owner after owner, and where among them the row of ids[i] lies.

        None: row i is that of ids[i] already. Raises as `rows` does.
        """
        self._exchange._wait(self._core)
        return hand_over(self._out), self._core.positions

    def rows(self) -> Any:
        """Wait until the rows are here: row i is that of ids[i]. For any stream to read.

        Raises TransportError or DeadlineError, which name the rank that failed where that is known as
        ``part``; the exchange is broken then.
        """
        out, positions = self.grouped()
        return out if positions is None else take(out, positions)


class Exchange:
    """A table in shards, one on each rank. Every rank begins the same number of rounds; `drain` evens out.

    Methods may be called from any thread; rounds run in the order of `start`. After a failure every call
    raises it: make a new exchange, under another ``name``, on all ranks.
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        ranks: int,
        shard: Any,
        *,
        part_starts: Sequence[int] | NDArray[np.int64] | None = None,
        device: int = 0,
        pinned: bool = False,
        name: str = "rows",
        address: str | None = None,
        deadline_s: float = 60.0,
        max_ctas: int = 0,
        self_by_nccl: bool = False,
    ) -> None:
        """Join the exchange; returns when all ranks have.

        ``shard``: rows of this rank, a torch tensor (on this GPU or not) or numpy array [n, ...], not copied,
        and not to be written to before `close`. ``part_starts``: int64 [ranks + 1], rank p owns the ids from
        part_starts[p] on; by default shards follow each other. ``device``: the GPU's number; each rank has
        its own. ``pinned``: rows go to pinned host memory rather than to the GPU. ``store``, ``address``: see
        `rudder.nccl.mesh`. ``name``: no two exchanges in a store may have the same. ``deadline_s``: of each
        wait for another rank: longer than the slowest step. ``max_ctas``: processors of the GPU that NCCL may
        take. ``self_by_nccl``: own rows cross NCCL, too, to try a single GPU.

        Raises ConfigError, TransportError (no NCCL, no GPU, ...), DeadlineError.
        """
        compiled: Any = importlib.import_module("rudder._nccl")
        self._shard = Rows(shard)
        self._shard.settle(device)
        self._device, self._pinned = device, pinned
        # In the order of their rounds, so whoever begins one holds the lock.
        self._under_way: deque[tuple[Round, Any]] = deque()
        self._beginning = threading.Lock()
        meeting = Meeting(store, name, rank, ranks, deadline_s)
        nccl_files = libraries.nccl_files()
        if rank == 0:
            meeting.tell("id", compiled.new_id(nccl_files))
        if part_starts is None:
            part_starts = _after_each_other(meeting, self._shard.count)
        starts = [int(start) for start in part_starts]
        if len(starts) != ranks + 1 or starts[rank + 1] - starts[rank] != self._shard.count:
            raise ConfigError(
                f"part_starts {starts} do not give rank {rank} of {ranks} its {self._shard.count} rows"
            )
        unique_id = meeting.hear("id", 0)
        sockets = connect(meeting, address)
        try:
            self._core = compiled.Exchange(
                nccl_files=nccl_files,
                cuda_files=libraries.cuda_files(),
                device=device,
                rank=rank,
                sockets=sockets,
                id=unique_id,
                part_starts=starts,
                row_bytes=self._shard.row_bytes,
                shard=self._shard.address,
                gpu=_gpu_runtime(device),
                deadline_s=deadline_s,
                max_ctas=max_ctas,
                self_by_nccl=self_by_nccl,
            )
        finally:
            for made in sockets:
                if made >= 0:
                    os.close(made)

    def start(self, ids: Any, out: Any = None) -> Pending:
        """Begin a round: ask for the rows of ``ids`` [n], int32 or int64, in any memory.

        ``out``: rows of the shard's kind for [n, ...], in GPU or pinned memory, not read or written until the
        round has finished; by default fresh memory. Begin the next round before using the rows of this one,
        and they travel while the model trains. Raises IdError, ConfigError, ClosedError, or what an earlier
        round failed with: no round has begun then.
        """
        array = _as_ids(ids)
        given = out is not None
        if not given and len(array):
            out = self._shard.empty(len(array), self._device, self._pinned)
        if len(array) and (target := Rows(out)).count != len(array):
            raise ConfigError(f"out has {target.count} rows, for {len(array)} ids")
        if len(array) and target.row_bytes != self._shard.row_bytes:
            raise ConfigError(f"rows of out have {target.row_bytes} bytes, not {self._shard.row_bytes}")
        address, after = (target.address, target.stream() if given else None) if len(array) else (0, None)
        with self._beginning:
            core = self._core.start(array, address, after=after)
            self._under_way.append((core, out))
            while self._under_way and self._under_way[0][0].finished and self._core.at_rest:
                self._under_way.popleft()
        return Pending(self, core, self._shard.none() if out is None else out)

    def rows(self, ids: Any, out: Any = None) -> Any:
        """`start`, and its rows."""
        return self.start(ids, out).rows()

    def drain(self) -> int:
        """Take part in the others' rounds until every rank has run out of minibatches; counts them."""
        nothing = np.empty(0, dtype=np.int64)
        for rounds in itertools.count(1):
            core = self._core.start(nothing, 0, done=True)
            self._wait(core)
            if core.all_done:
                return rounds
        raise AssertionError("unreachable")

    @property
    def serving(self) -> str:
        """Who gathers the rows that others ask for.

        The GPU's "kernel", where rudder was built with CUDA and the shard lies on the GPU or is pinned; the
        "processor", from other host memory; "copies", one for each run of neighbouring rows, on a GPU without
        the kernel: slow.
        """
        name: str = self._core.serving
        return name

    def stats(self) -> Mapping[str, int]:
        """Totals: "rounds", "rows_got", "rows_served" (own rows not counted)."""
        stats: Mapping[str, int] = self._core.stats()
        return stats

    def close(self) -> None:
        """Leave; rounds under way fail. Every rank closes after the same round. Idempotent."""
        self._core.close()
        self._keep_what_is_lost()

    def _wait(self, core: Round) -> None:
        try:
            self._core.wait(core)
        except RudderError:
            self._keep_what_is_lost()
            raise

    def _keep_what_is_lost(self) -> None:
        if not self._core.at_rest:
            with self._beginning:
                _kept.extend([*self._under_way, self._shard])

    def __enter__(self) -> Exchange:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def _after_each_other(meeting: Meeting, rows: int) -> list[int]:
    """Shards in the order of ranks; each says how many rows it has."""
    meeting.tell("rows", str(rows).encode())
    counts = [int(meeting.hear("rows", rank)) for rank in range(meeting.ranks)]
    return [0, *itertools.accumulate(counts)]


def _as_ids(ids: Any) -> NDArray[Any]:
    """Ids in main memory, contiguous, int32 or int64."""
    array = np.asarray(ids.cpu() if hasattr(ids, "cpu") else ids)
    if array.size == 0:
        return np.empty(0, dtype=np.int64)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise IdError(f"ids must be integers in one dimension, not {array.dtype} of shape {array.shape}")
    return np.ascontiguousarray(array, dtype=np.int32 if array.dtype == np.int32 else np.int64)


def _gpu_runtime(device: int) -> GpuRuntime | None:
    """The GPU that rudder's own kernels run on; None where it was built without them."""
    if libraries.ENV_CUDART in os.environ:  # they go with NVIDIA's runtime; this is another
        return None
    try:
        compiled: Any = importlib.import_module("rudder._cuda")
    except ImportError:
        return None
    gpu: GpuRuntime | None = None if compiled.why_not(device) else compiled.open(device)
    return gpu
