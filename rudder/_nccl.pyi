"""Contract of the compiled exchange between GPUs, a module of its own: it is always built, and opens NCCL and
the CUDA runtime only when one of its functions is called. Used by `rudder.nccl`. See csrc/transport/nccl.

Threads: every method may be called from any thread, and gives the GIL up while it waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rudder._core import GpuRuntime

def library(files: Sequence[str]) -> tuple[int, str]:
    """Version (22703 is 2.27.3) and file of the first NCCL of ``files`` that opens. Raises TransportError."""

def check_gpu(files: Sequence[str], device: int) -> None:
    """Raise TransportError with the reason where no GPU can be used, ConfigError for a wrong number."""

def new_id(files: Sequence[str]) -> bytes:
    """The 128 bytes that name a communicator; made by one rank, given to all. Raises TransportError."""

class Round:
    """One round of this rank; read it when it has finished."""

    @property
    def finished(self) -> bool: ...
    @property
    def all_done(self) -> bool:
        """Had every rank run out of minibatches?"""

    @property
    def positions(self) -> NDArray[np.int64] | None:
        """Where among the destination's rows the row of ids[i] lies; None: row i is that of ids[i]."""

class Exchange:
    """Ranks that trade rows in rounds, in step."""

    def __init__(
        self,
        *,
        nccl_files: Sequence[str],
        cuda_files: Sequence[str],
        device: int,
        rank: int,
        sockets: Sequence[int],
        id: bytes,
        part_starts: Sequence[int],
        row_bytes: int,
        shard: int,
        gpu: GpuRuntime | None = None,
        deadline_s: float = 60.0,
        grace_s: float = 5.0,
        threads: int = ...,
        max_ctas: int = 0,
        self_by_nccl: bool = False,
    ) -> None:
        """Join; returns when every rank has. ``sockets[p]``: a connected socket to rank p; the
        caller may close them afterwards.

        ``shard``: address of this rank's rows. ``gpu``: whose kernel gathers them, where a GPU reads them.
        Raises ConfigError, TransportError, DeadlineError.
        """

    def start(self, ids: NDArray[Any], out: int, *, after: int | None = None, done: bool = False) -> Round:
        """Begin a round: the rows of ``ids`` (int32 or int64) go to address ``out``, grouped by owner.

        ``after``: a stream with work on ``out``. Raises IdError, ConfigError, ClosedError, and what an
        earlier round failed with.
        """

    def wait(self, round: Round) -> None:
        """Return when the round's rows are in place. Raises TransportError, DeadlineError, ClosedError."""

    @property
    def at_rest(self) -> bool:
        """False: NCCL was lost, and may still write to the destinations of rounds that failed."""

    @property
    def serving(self) -> str:
        """Who gathers rows of the shard: "processor", the GPU's "kernel", or "copies", without a kernel."""

    def stats(self) -> dict[str, int]:
        """Totals: "rounds", "rows_got", "rows_served" (own rows not counted)."""

    def close(self) -> None:
        """End this rank's part; rounds under way fail. Idempotent."""
