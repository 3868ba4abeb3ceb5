"""The compiled core, as Python sees it. Every blocking call releases the GIL."""

from collections.abc import Callable, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Bytes = NDArray[np.uint8]

def policy_names() -> list[str]: ...

class Prior:
    """Worth of every row of a table beyond the window, immutable. Static policies rank rows by worth itself,
    lookahead by levels of it, a byte a row.
    """

    @staticmethod
    def from_worth(worth: NDArray[np.float32]) -> Prior: ...
    @property
    def worth(self) -> NDArray[np.float32]: ...

class GpuRuntime:
    """The calls that a GPU answers: a real one (`rudder._cuda.open`) or a simulated one."""

    @property
    def name(self) -> str: ...
    def make_stream(self) -> int:
        """A stream of its own, as a handle; give it to `destroy_stream` when its work is done."""
    def destroy_stream(self, stream: int) -> None: ...

class SimulatedGpu(GpuRuntime):
    """A GPU made of this process's memory, for tests. mode: when work on its streams is done: "eager", at
    once; "manual", by `step` and `run`; "thread", on a thread, in an order that `seed` gives.
    """

    def __init__(self, *, mode: str = ..., memory_bytes: int = ..., seed: int = ...) -> None: ...
    def inject(self, *, refuse_pinning: str = ..., refuse_read_only: str = ..., fail: str = ...) -> None:
        """Fault injection: reasons to refuse to pin (read-only) memory, or to fail; no arguments heal it."""
    def lend(self, data: int, bytes: int) -> None:
        """Memory at address ``data`` counts as the GPU's from now on; it must stay."""
    def step(self) -> bool:
        """Do a piece of work of a stream; False where there is none."""
    def run(self) -> None:
        """Do all of it."""
    @property
    def launches(self) -> int: ...
    @property
    def waits(self) -> int:
        """Times that the CPU waited for it."""
    @property
    def allocated(self) -> int:
        """Bytes of its memory in use."""
    @property
    def registered(self) -> int:
        """Ranges of host memory that are pinned."""

class Gpu:
    """A GPU as prefetchers use it; several may share one. Thread-safe."""

    def __init__(self, runtime: GpuRuntime) -> None: ...
    @property
    def name(self) -> str: ...

class GatherProbe:
    """Gathers from a table held in every kind of memory, as training does. One call at a time.

    tier: "device", "pinned", "pageable", or "mixed": by the row's number in turns in each of the three.
    data, stream: as `Prefetcher.gather_on_device` has them.
    """

    def __init__(self, gpu: Gpu, rows: Bytes, threads: int = ...) -> None:
        """rows: uint8 [n, row_bytes], copied to pinned and device memory. Raises ArenaError, ConfigError."""
    def gather(self, tier: str, ids: Ids, data: int, stream: int) -> None:
        """As a minibatch: addresses listed by the CPU, uploaded, one launch. ids: int64, in the table."""
    def list(self, ids: Ids, wide: bool) -> None:
        """Put row numbers on the GPU, as int64 where `wide`, else int32, and wait for that."""
    def gather_listed(self, tier: str, data: int, stream: int) -> None:
        """The kernel alone, of "device" or "pinned", over the rows listed last."""

class Transport:
    """A way to gather rows of peers' tables. Shared by prefetchers; thread-safe."""

    @property
    def name(self) -> str: ...
    def place(self, peer: int) -> str:
        """Where the rows of a partition come from, for messages ("10.0.0.2:7000"); "" where not known."""
    def close(self) -> None: ...

class LoopbackTransport(Transport):
    """Tables held in this process's memory, for tests and one-process use."""

    def __init__(self) -> None: ...
    def expose(self, peer: int, table: int, rows: Bytes) -> None:
        """Make `rows` (uint8 [n, row_bytes], C-contiguous, kept alive) the rows of `table` at partition
        `peer`.
        """
    def inject(self, *, delay_s: float = ..., stall: bool = ..., fail: str = ..., after: int = ...) -> None:
        """Fault injection for tests, from the `after`-th gather from now on;
        no arguments heal the transport.
        """

class ShmTransport(Transport):
    """Same-host peers' shards, mapped read-only from POSIX shared memory."""

    def __init__(self) -> None: ...
    def attach(
        self, peer: int, table: int, segment: str, rows: int, row_bytes: int, offset: int = ...
    ) -> None:
        """Map shared memory `segment` (as shm_open spells it).
        Raises TransportError where it is absent or too short.
        """

class CallbackTransport(Transport):
    """Rows pulled by a Python callable on a thread of the transport, e.g. DistDGL's KVStore.

    ``pull(table, parts, local_rows) -> uint8 [n, row_bytes]``: `parts` (int64 [n], ascending) owns the row in
    the same place of `local_rows` (int64 [n], row numbers within that partition). One call carries every peer
    of a fetch, so that their answers overlap. Any exception becomes a TransportError; a result of another
    shape does too.
    """

    def __init__(self, name: str, pull: Callable[[int, Ids, Ids], Bytes], places: Sequence[str] = ()) -> None:
        """``places``: by partition, as `Transport.place` has it."""

class Prefetcher:
    """Buffer + window + policy + fetch engine of one table. Any method may be called from any thread."""

    def __init__(
        self,
        *,
        table: int,
        row_bytes: int,
        part_starts: Ids,
        local_part: int,
        local_rows: Bytes | None,
        routes: Sequence[Sequence[Transport]],
        capacity_rows: int,
        window_rows: int,
        depth: int = ...,
        policy: str = ...,
        prior: Prior | None = ...,
        staging_bytes: int = ...,
        deadline_s: float = ...,
        threads: int = ...,
        record: bool = ...,
        prefill: bool = ...,
        observe: int = ...,
        period: int = ...,
        alpha: float = ...,
        gpu: Gpu | None = ...,
        device_rows: int = ...,
        most_rows: int = ...,
    ) -> None:
        """
        part_starts: int64 [P+1]; partition p owns ids part_starts[p] <= id < part_starts[p+1].
        local_rows:  uint8 [rows of local_part, row_bytes] of the local shard (None when it has none).
        routes:      for each partition its transports, best first (the later ones are the fallback);
                     the local one's is empty.
        window_rows: sample ahead until this many remote requests wait beyond the minibatch in use.
        depth:       minibatches fetched ahead of the one in use (>= 1).
        staging_bytes: bound on fetched rows that wait; one minibatch always passes, whatever its size.
        prefill, observe, period, alpha: as in `replay`; observe 0 counts until `steer` says how many.
        gpu:         that the calls ending in _on_device write to; rows are pinned for it, as far as possible.
        device_rows: rows of the buffer that its memory holds, too; fewer where it has no room.
        most_rows:   that `steer` may raise the capacity to, where that is more than capacity_rows; the memory
                     beyond the capacity is then never in use, and goes back to the system where it was.
        """
    # -- sampler's side
    def submit(self, ids: Ids, waiting_bytes: int = ...) -> int:
        """Append a minibatch to the window; returns its number.
        `waiting_bytes` is what its blocks occupy, for the metrics.
        """
    def wait_room(self, timeout_s: float) -> bool:
        """Wait until the window wants another minibatch; False on timeout. Raises ClosedError after close."""
    # -- trainer's side, in order of submission
    def take(self, seq: int, timeout_s: float = ...) -> None:
        """Wait until the rows of minibatch `seq` are here; releases every earlier one.
        Raises TransportError, DeadlineError.
        """
    def gather(self, seq: int, out: Bytes) -> None:
        """Copy the rows of taken minibatch `seq` into out (uint8 [n, row_bytes]), in the order of its ids."""
    def gather_on_device(self, seq: int, data: int, bytes: int, stream: int) -> None:
        """The same into device memory at address `data`, `bytes` long: queued on the stream (a handle of the
        GPU's runtime, as torch's `cuda_stream`), in one launch, when this returns. Raises DeviceError, and
        ConfigError without a GPU.
        """
    def release(self, seq: int) -> None: ...
    def read_on_device(self, ids: Ids, data: int, bytes: int, stream: int) -> None:
        """Rows of any ids into device memory; waits for those that must be fetched, not for the GPU."""
    def read(self, ids: Ids, out: Bytes) -> None:
        """Rows of any ids, now: from the local shard, the buffer, rows in flight, else fetched."""
    # -- steering
    def drop_pending(self) -> int:
        """Forget minibatches submitted but not taken; returns how many. Their numbers are not used again."""
    def invalidate(self, ids: Ids | None) -> None:
        """The source's rows changed (None: all): drop what is buffered and refetch what is staged."""
    def steer(
        self,
        *,
        capacity_rows: int | None = ...,
        window_rows: int | None = ...,
        depth: int | None = ...,
        staging_bytes: int | None = ...,
        prior: Prior | None = ...,
        replace: bool | None = ...,
        fraction: int | None = ...,
        observe: int | None = ...,
        device_rows: int | None = ...,
    ) -> None: ...
    def counters(self) -> dict[str, int | float]:
        """Running totals since the start (see rudder.metrics for their meaning):
        minibatches, ids_requested, rows_requested (remote, distinct per minibatch), rows_hit, rows_moved,
        rows_merged, rows_replaced, rows_evicted, rows_hit_on_device, rows_read_unplanned,
        rows_refetched, rows_wasted, fetches_failed, promotions_refused; seconds_fetching, seconds_stalled;
        and gauges: capacity_rows, cached_rows, held_rows (whose memory is taken: the capacity, and what
        readers of a smaller one have not left yet), device_rows, device_bytes, upload_bytes,
        upload_device_bytes, overhead_bytes, window_rows, window_minibatches, window_bytes, waiting_bytes,
        staging_bytes_now, staging_bytes_peak.
        """
    def route_state(self) -> list[dict[str, object]]:
        """Per partition: transport in use, whether it is a fallback, and why."""
    def memory(self) -> dict[str, object]:
        """What the arenas got: bytes, page kind, pinned or the reason why not, the GPU's name ("" without),
        why it does not read the local shard in place.
        """
    def drain_record(self) -> list[tuple[str, int, Ids]]:
        """With record=True: every call that the ledger (window + policy) got since the last drain, in order.
        Its decisions depend on nothing else, so that replaying the log gives exactly the same rows. (call,
        number, remote ids):
        ("foresee", minibatch, ids) | ("execute", minibatch, []) | ("read", 0, ids) | ("drop", executed, []) |
        ("capacity", rows, []) | ("depth", minibatches, []) | ("prior", 0, []) | ("replace", 0 or 1, []) |
        ("fraction", percent, []) | ("observe", minibatches, []) | ("unstage", minibatch, []) |
        ("invalidate", refetched, ids):
        executed minibatches that were dropped before their use, rows fetched again for those on their way.
        """
    def close(self) -> None:
        """Stop all threads; waiting calls raise ClosedError. Idempotent."""

class TransportProbe:
    """Measures a transport alone, through the calls that training makes. One run at a time."""

    def __init__(
        self,
        transport: Transport,
        *,
        table: int,
        row_bytes: int,
        peers: Sequence[int],
        deadline_s: float = ...,
    ) -> None:
        """Raises ConfigError where the transport cannot reach one of the peers, with its reason."""
    def run(self, rows: Ids, out: Bytes, in_flight: int = ...) -> tuple[float, NDArray[np.int64]]:
        """Gather rows, `in_flight` requests at a time: the seconds of all, and each one's nanoseconds.

        rows: int64 [requests, n], row numbers within the peer that answers their column; the columns of P
        peers are as those of numpy.array_split. out: uint8 [requests * n, row_bytes].
        Raises TransportError, DeadlineError; nothing is written to `out` afterwards.
        """

class Ledger:
    """Window and policy alone: which rows each minibatch moves. No row is ever held.

    The same code as in a `Prefetcher`, so that the same calls give the same rows. Not thread-safe: one thread
    at a time.
    """

    def __init__(
        self,
        *,
        id_space: int,
        capacity: int,
        policy: str = ...,
        depth: int = ...,
        prior: Prior | None = ...,
        prefill: bool = ...,
        observe: int = ...,
        period: int = ...,
        alpha: float = ...,
    ) -> None:
        """Ids lie in [0, id_space). depth: minibatches for which a fetched row that was not kept serves.

        prefill, observe, period, alpha: as in `replay`. Raises ConfigError.
        """
    def foresee(self, ids: Ids) -> int:
        """Append a minibatch to the window (repeats count once); returns its number. Raises IdError."""
    def execute(self) -> int:
        """Execute the oldest minibatch of the window; returns the rows moved. Raises StateError where there
        is none.
        """
    def read(self, ids: Ids) -> int:
        """Execute a minibatch that was not foreseen, before those of the window; returns the rows moved."""
    def run(
        self,
        ids: NDArray[np.int32] | Ids,
        offsets: Ids,
        *,
        begin: int = ...,
        end: int | None = ...,
        window: int = ...,
        window_rows: int = ...,
    ) -> Ids:
        """Execute minibatches [begin, end) of a trace (as in `replay`); returns the rows that each moved.

        What waits in the window already must be the trace's minibatches from `begin` on. The window reaches
        `window` minibatches beyond the one executed, or until they request window_rows, whichever is
        farther; it may be left with minibatches beyond `end`. Raises IdError, ConfigError.
        """
    def steer(
        self,
        *,
        capacity_rows: int | None = ...,
        depth: int | None = ...,
        prior: Prior | None = ...,
        replace: bool | None = ...,
        fraction: int | None = ...,
        observe: int | None = ...,
    ) -> None:
        """As `Prefetcher.steer`; what is None stays."""
    def drop_pending(self) -> None:
        """Empty the window without executing it."""
    def invalidate(self, ids: Ids) -> None:
        """Drop rows from the buffer and from the staged ones."""
    def clone(self) -> Ledger:
        """A ledger in the same state, which goes on alone."""
    def counters(self) -> dict[str, int]:
        """Totals since the start, by their names in `rudder.metrics`: minibatches, rows_requested, rows_hit,
        rows_merged, rows_moved, rows_replaced, rows_evicted; and gauges of now: capacity_rows, cached_rows,
        window_rows, window_minibatches, window_bytes.
        """

# -- modelled time: see csrc/shadow/pipeline.h
class Feed:
    """What minibatches ask for and cost. Minibatches [first, end), appended as they are sampled and forgotten
    from the front. Not thread-safe.
    """

    first: int
    end: int
    def __init__(self) -> None:
        """Empty, from minibatch 0."""
    def ids(self, minibatch: int) -> Ids:
        """Of a minibatch: its distinct remote rows, or a sample of them. Raises IdError."""
    def append(
        self,
        ids: Ids,
        *,
        requests: float,
        sampling: float,
        block_bytes: float,
        compute: float = ...,
        row_seconds: float = ...,
        latency: float = ...,
    ) -> None:
        """One more minibatch. requests: its distinct remote rows, all of them. sampling, compute (all of the
        trainer's own time), row_seconds (of one row on the link), latency: seconds.
        """
    def pass_by(self) -> None:
        """One more minibatch, of which nothing is kept. Raises StateError where any is kept."""
    @overload
    def cost(self, begin: int, end: int, *, compute: float, row_seconds: float, latency: float) -> None: ...
    @overload
    def cost(self, begin: int, end: int, *, row_seconds: float) -> None:
        """Set what was measured of the minibatches [begin, end). Raises IdError."""
    def renumber(self, minibatch: int, ids: Ids) -> None:
        """Put these in the place of its ids. Raises IdError."""
    def forget(self, before: int) -> None:
        """Drop the minibatches before this one."""
    def truncate(self, end: int) -> None:
        """Drop the minibatches from this one on; it is the next to be appended."""

class Numbering:
    """Ids numbered from 0 in the order in which they come, those of one minibatch by their size. Not
    thread-safe.
    """

    #: The id of each number, as a new array.
    ids: Ids
    def __init__(self) -> None: ...
    def __len__(self) -> int:
        """Ids that have a number."""
    def of(self, ids: Ids) -> Ids:
        """The numbers of these ids, each once. Raises IdError for an id below 0."""

class Pipeline:
    """When each minibatch is sampled, decided on, fetched and trained on, in seconds from 0. Goes on from
    where it stands. Not thread-safe.
    """

    #: When the trainer ended its last minibatch.
    clock: float
    #: The minibatch that is next, and the first one that is not sampled.
    next: int
    sampled: int
    #: Totals in seconds: the trainer's waits, and how long fetches were under way.
    stalled_sampling: float
    stalled_fetching: float
    fetching: float
    def __init__(self, depth: int, window_rows: float, waiting_bytes: float, first: int = ...) -> None:
        """window_rows: sample ahead until so many requests wait; waiting_bytes: bound on blocks; first: the
        minibatch with which it begins. Raises ConfigError.
        """
    def clone(self) -> Pipeline:
        """The same state, which goes on alone."""
    def steer(self, feed: Feed, depth: int, window_rows: float, waiting_bytes: float) -> None:
        """New settings from now on, between two minibatches. Raises ConfigError."""
    def pause(self, seconds: float) -> None:
        """The trainer does something else for so long."""
    def drop(self) -> None:
        """What was sampled ahead is forgotten."""
    def run(self, feed: Feed, ledger: Ledger, end: int, halvings: int = ...) -> NDArray[np.float64]:
        """Go on until minibatch `end` is next; returns the rows that each minibatch moved.

        ledger: decides which; each of its ids stands for 2 ** halvings. Raises IdError where the feed has not
        all of the minibatches, or an id that the ledger has no room for.
        """
    def row_seconds(self, feed: Feed, moved: NDArray[np.float64], fetching: float, guess: float) -> float:
        """Seconds of a row on the link, so that fetches are under way for `fetching` seconds in all.

        moved: rows of each minibatch from `next` on, whose other costs are in the feed; seconds a row of
        these are overwritten. guess: > 0, the answer where nothing was fetched. The pipeline stays as it is.
        """

# -- replay: a trace run through the policies of the live engine, counting rows instead of moving them
def policy_summary(name: str) -> str:
    """What a policy does, in a line; empty for an unknown name."""

def replay(
    ids: NDArray[np.int32] | Ids,
    offsets: Ids,
    policy: str,
    capacity: int,
    *,
    prior: NDArray[np.float32] | None = ...,
    window: int = ...,
    window_rows: int = ...,
    tumbling: bool = ...,
    depth: int = ...,
    prefill: bool = ...,
    observe: int = ...,
    period: int = ...,
    alpha: float = ...,
) -> dict[str, int]:
    """Replay a trace: minibatch t requests ids[offsets[t]:offsets[t + 1]] (C-contiguous, >= 0; repeats count
    once).

    prior: worth per id. window: minibatches beyond the one executed, or until
    they request window_rows, whichever is farther; tumbling: filled only when empty, and counting the one
    executed.
    depth: minibatches for which a fetched row that was not kept still serves. prefill: static-* and score
    begin with the rows of highest worth. observe: minibatches that static-frequency counts first. period,
    alpha: of score; with a period of 0 it replaces once for each `replace` steered.
    Returns rows_requested, hits, merged, rows_moved, replacement_rows (part of rows_moved).
    Raises ConfigError.
    """

@overload
def offline_optimum(ids: NDArray[np.int32] | Ids, offsets: Ids, capacity: int) -> int: ...
@overload
def offline_optimum(ids: NDArray[np.int32] | Ids, offsets: Ids, capacity: Sequence[int]) -> list[int]:
    """Rows moved by Belady's MIN with bypass: exact. Several capacities cost little more than one."""

@overload
def static_oracle(ids: NDArray[np.int32] | Ids, offsets: Ids, capacity: int) -> int: ...
@overload
def static_oracle(ids: NDArray[np.int32] | Ids, offsets: Ids, capacity: Sequence[int]) -> list[int]:
    """Rows moved when the most requested rows are kept from their first miss on."""

def compulsory(ids: NDArray[np.int32] | Ids, offsets: Ids) -> int:
    """Distinct rows of the trace: what any buffer moves."""

def replay_log(
    calls: Sequence[tuple[str, int, Ids]],
    *,
    id_space: int,
    policy: str,
    capacity: int,
    depth: int = ...,
    priors: Sequence[Prior] = ...,
    prefill: bool = ...,
    observe: int = ...,
    period: int = ...,
    alpha: float = ...,
) -> dict[str, int]:
    """Replay the calls of a live run, as Prefetcher.drain_record gives them: with its settings, exactly its
    rows.

    Ids lie in [0, id_space). priors: of the "prior" calls, in order; one that comes before every other call
    is what the policy starts with. prefill, observe, period, alpha: as in `replay`. Returns what `replay`
    does. Raises ConfigError, and FormatError for a call that is unknown or out of place.
    """
