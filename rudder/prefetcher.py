"""A table of feature rows behind a buffer: the public engine, over any `FeatureSource`.

It composes the compiled core (buffer, window, policy, fetches) with metering and steering, and holds no
algorithm.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rudder import lifetime
from rudder.claims import Claims, DeviceRows, Taken
from rudder.config import ENV_OUT, ENV_RECORD, folder_from, parse_bytes, rows_of_capacity
from rudder.device_feed import DeviceFeed, Made, ReadyRows
from rudder.errors import ConfigError
from rudder.gap import GapMeter
from rudder.gpu import open_gpu
from rudder.meter import Meter
from rudder.metrics import IntervalMetrics
from rudder.minibatch import Minibatch, joined
from rudder.options import Options
from rudder.plan import Plan
from rudder.planner import Planner
from rudder.recorder import Recorder
from rudder.run_folder import run_folder
from rudder.source import Bytes, FeatureSource, Ids, as_ids, as_rows
from rudder.verify import Verifier

if TYPE_CHECKING:
    from rudder.loader import PrefetchLoader
    from rudder.lookahead import Lookahead

_tables = itertools.count()


class Prefetcher:
    """Rows of one table, by id, most of them here before they are asked for.

    ``prefetcher[ids]`` always returns exactly the source's rows, prefetched or not. Any method may be
    called from any thread; `announce` and the rows of announced minibatches belong to one, the trainer's.
    """

    def __init__(self, source: FeatureSource, options: Options | None = None) -> None:
        """Open the buffer over ``source``. Raises ConfigError or ArenaError."""
        from rudder import _core

        self.source = source
        self.options = options = options or Options()
        if source.row_bytes <= 0:
            raise ConfigError(f"{source.name}: rows of {source.row_bytes} bytes cannot be prefetched")
        starts = np.ascontiguousarray(source.part_starts, dtype=np.int64)
        self.rows = int(starts[-1])
        self.remote_rows = self.rows - int(starts[source.local_part + 1] - starts[source.local_part])
        self.capacity_rows = rows_of_capacity(
            options.capacity,
            halo_rows=source.halo_rows,
            remote_rows=self.remote_rows,
            row_bytes=source.row_bytes,
        )
        #: The GPU that rows go to; None: main memory.
        self.gpu = open_gpu(options.device) if options.device is not None else None
        #: Rows that are on it before they were asked for.
        self.ready_rows = ReadyRows()
        self._planner = Planner(source, options, self.capacity_rows, self.remote_rows)
        most: dict[str, Any] = {"most_rows": self._planner.most_rows} if options.share_memory else {}
        record = folder_from(options.record, ENV_RECORD)
        table = next(_tables)
        routes = source.routes(table)
        self._core = _core.Prefetcher(
            table=table,
            row_bytes=source.row_bytes,
            part_starts=starts,
            local_part=source.local_part,
            local_rows=source.local_rows,
            routes=routes,
            # All of the memory, so that a later plan may give the window's share to the buffer.
            capacity_rows=self._planner.memory_rows,
            window_rows=self._planner.window_rows,
            depth=self.plan.depth,
            policy=options.policy,
            prior=self._planner.first_prior,
            **options.policy_settings.for_core(),
            staging_bytes=parse_bytes(options.staging),
            deadline_s=options.deadline,
            threads=options.threads,
            record=record is not None,
            gpu=self.gpu.core if self.gpu is not None else None,
            device_rows=self._planner.device_rows,
            **most,
        )
        self._recorder = (
            Recorder(
                record,
                source.name,
                options.rank,
                self._description(),
                self._core.drain_record,
                self._planner.first_prior,
                source.halo_ids() if source.halo_ids is not None else None,
            )
            if record is not None
            else None
        )
        self._claims = Claims(self._core, source.row_bytes)
        self._closing = threading.Lock()
        self._closed = False
        #: Times that rows changed, see `invalidate`: what was gathered ahead of the last one is stale.
        self.writes = 0
        #: The loader that fills the window now; see `rudder.lookahead`.
        self.feeder: Lookahead | None = None
        #: The loader that yielded last.
        self.last_user: Lookahead | None = None
        local = (int(starts[source.local_part]), int(starts[source.local_part + 1]))
        self._gap = GapMeter(local) if options.gap_meter else None
        folder = folder_from(options.metrics_dir, ENV_OUT)
        self._meter = Meter(
            self._core.counters,
            tensor=source.name,
            rank=options.rank,
            row_bytes=source.row_bytes,
            folder=run_folder(folder.absolute(), options.rank) if folder is not None else None,
            callback=options.on_metrics,
            gap=self._gap,
        )
        self._planner.measure(routes, table)
        self._planner.steer(self._core, self._recorder, self._meter)
        self._verifier = (
            Verifier(source, self._meter, raises=options.verify != "count") if options.verify else None
        )
        self._meter.start(self._description(), self.plan)
        lifetime.register_table(self)

    # -- rows

    def __len__(self) -> int:
        """Rows of the table."""
        return self.rows

    def __getitem__(self, ids: Any) -> Any:
        """The rows of ``ids`` (integers [n], in any order, repetitions allowed), as a new array.

        With `Options.device`, as a new tensor on that GPU: its rows are there for whatever is queued on
        torch's present stream after this; nothing waits for the GPU.
        """
        wanted = as_ids(ids, self.rows)
        if self.gpu is not None:
            return self.rows_on_device(wanted)
        out = np.empty((len(wanted), *self.source.row_shape), dtype=self.source.dtype)
        self.read_into(wanted, as_rows(out))
        return out

    def read_into(self, ids: Ids, out: Bytes) -> None:
        """Copy the rows of ``ids`` (int64 [n]) into ``out`` (uint8 [n, row_bytes], C-contiguous).

        Where they are those of a minibatch announced before, its prefetched rows are used; any others are
        read now. Raises IdError, TransportError, DeadlineError, ClosedError; with verify=True also
        VerifyError.
        """
        if len(ids) == 0:
            return
        taken = self._claims.read(ids, out)
        if taken is None:
            self._read_now(ids, lambda: self._core.read(ids, out))
        else:
            self._account(taken)
        if self._verifier is not None:
            self._verifier.compare(ids, out)

    def rows_on_device(self, ids: Ids) -> Any:
        """The rows of ``ids`` (int64 [n]) as a new tensor on the table's GPU.

        Those that a loader gathered ahead are here already; others are queued on torch's present stream when
        this returns. Raises as `read_into`, and DeviceError. REQUIRES `Options.device`.
        """
        assert self.gpu is not None
        rows = self.ready_rows.claim(ids, self.writes)
        if rows is None:
            rows = self.gpu.empty(len(ids), self.source.row_shape, self.source.dtype)
            if len(ids) == 0:
                return rows
            place = self._place(rows)
            taken = self._claims.read_on_device(ids, place)
            if taken is None:
                self._read_now(ids, lambda: self._core.read_on_device(ids, *place))
            else:
                self._account(taken)
        if self._verifier is not None:
            self._verifier.compare(ids, self.gpu.bytes_of(rows))  # comparing waits for the GPU
        return rows

    def gather_ahead(self, minibatch: Minibatch, out: Any, *, wait: bool) -> bool:
        """Queue the copy of all rows of a submitted minibatch into ``out``, a tensor on the table's GPU,
        before the trainer asks for them; False where they are not here yet, with ``wait=False``.
        """
        taken = self._claims.gather_ahead(minibatch, self._place(out), wait=wait)
        if taken is not None:
            self._account(taken)
        return taken is not None

    def _place(self, out: Any) -> DeviceRows:
        assert self.gpu is not None
        return DeviceRows(out.data_ptr(), out.numel() * out.element_size(), self.gpu.streams.current())

    def _read_now(self, ids: Ids, read: Callable[[], None]) -> None:
        """Rows that no announced minibatch has: local and buffered ones are copied, others waited for."""
        stalled = self._core.counters()["seconds_stalled"]
        began = time.perf_counter()
        read()
        spent = time.perf_counter() - began
        # Another thread may have waited meanwhile, so this is a bound where several read at once.
        waited = min(spent, self._core.counters()["seconds_stalled"] - stalled)
        self._meter.add(seconds_stalled_fetching=waited, seconds_gathering=spent - waited)
        if self._gap is not None:
            self._gap.read(ids, self.plan.interval)
        if self._recorder is not None:
            self._recorder.read()

    def invalidate(self, ids: Any | None = None) -> None:
        """The source's rows of ``ids`` (None: all) changed, by this process or another: fetch them anew."""
        self._core.invalidate(None if ids is None else as_ids(ids, self.rows))
        self._claims.forget_staged()
        self.writes += 1

    def _account(self, taken: Taken) -> None:
        self._meter.add(seconds_stalled_fetching=taken.waited, seconds_gathering=taken.gathering)
        if taken.seq is None:
            return
        if self._gap is not None:
            self._gap.taken(taken.seq)
        if self._recorder is not None:
            self._recorder.began(taken.seq, taken.waited)

    # -- minibatches

    def submit(
        self, *parts: NDArray[Any], waiting_bytes: int = 0, sampling_seconds: float = 0.0
    ) -> Minibatch:
        """Append a minibatch to the window: its rows will be here when it is announced and asked for.

        ``parts``: integer arrays of ids, usually one. ``waiting_bytes``: what its blocks occupy while they
        wait. Raises IdError, ClosedError.
        """
        ids = as_ids(joined(parts), self.rows)
        self._planner.submitted(ids, waiting_bytes, sampling_seconds)
        self._meter.add(seconds_sampling=sampling_seconds)
        minibatch = Minibatch(self._core.submit(ids, waiting_bytes), parts)
        if self._gap is not None:
            self._gap.submitted(minibatch.seq, ids, self.plan.interval)
        if self._recorder is not None:
            self._recorder.sampled(minibatch.seq, sampling_seconds)
        return minibatch

    def announce(self, minibatch: Minibatch | None, waited: float = 0.0) -> None:
        """The trainer begins this minibatch now (None: one that was not submitted); ends the interval where
        it is due.

        ``waited``: seconds that it waited for the minibatch to be sampled.
        """
        self._meter.add(seconds_stalled_sampling=waited)
        if self._meter.minibatches >= self.plan.interval:
            self._end_interval()
        elif self._meter.minibatches == self._planner.asks_after:
            self._planner.ask(self._meter.so_far(self.plan, self._planner.refused), self._waiting_bytes())
        self._meter.begin_minibatch()
        if minibatch is None:
            return
        taken = self._claims.announce(minibatch)
        if taken is not None:
            self._account(taken)

    def wait_for_room(self, seconds: float) -> bool:
        """Wait until the window wants another minibatch; False after so many seconds. Raises ClosedError."""
        return self._core.wait_room(seconds)

    def drop_pending(self) -> None:
        """Forget all minibatches that were submitted and whose rows were not asked for yet."""
        self._claims.drop()
        self._planner.dropped()
        if self._gap is not None and not self._closed:
            self._gap.dropped(int(self._core.counters()["minibatches"]))

    def finish_epoch(self) -> None:
        """The trainer is done with every minibatch whose rows it asked for; they need not be kept.

        `rudder.loader.PrefetchLoader` calls it where an epoch ends.
        """
        self._claims.finish()
        self._planner.end_epoch()

    def iterate(
        self,
        minibatches: Iterable[Any],
        ids: Callable[[Any], Any] = lambda minibatch: minibatch,
        **settings: Any,
    ) -> PrefetchLoader:
        """Yield what ``minibatches`` yields, reading ahead of the trainer and prefetching ``ids(minibatch)``.

        ``settings`` are those of `rudder.loader.PrefetchLoader`.
        """
        from rudder.loader import PrefetchLoader
        from rudder.sampling import Prepared

        def prepare(minibatch: Any) -> Prepared:
            kept = np.array(ids(minibatch))
            return Prepared(minibatch, kept.nbytes, [[kept]])

        if self.gpu is not None:
            # The rows are gathered ahead; minibatches are the caller's own, and stay as they are.
            feed = DeviceFeed(self.gpu, [self], lambda prepared: Made(prepared.packed, []))
            settings = {"maker": feed, **settings}
        return PrefetchLoader(minibatches, [self], prepare, **settings)

    # -- steering

    @property
    def plan(self) -> Plan:
        """The plan in force."""
        return self._planner.plan

    @property
    def waiting_share(self) -> int:
        """Bytes of the buffer's memory that the plan in force gives to waiting blocks."""
        return self._planner.waiting_share

    def replan(self, **changes: Any) -> Plan:
        """Change fields of the plan in force now, between intervals; the controller goes on from there."""
        plan = self._planner.replan(**changes)
        if self.feeder is not None:
            self.feeder.poke()  # more may wait now
        return plan

    def _end_interval(self) -> None:
        metrics = self._meter.end_interval(self.plan, self._planner.refused)
        self._planner.next_interval(metrics, self._waiting_bytes())
        if self.feeder is not None:
            self.feeder.poke()

    def _waiting_bytes(self) -> int | None:
        """The loader's bound on blocks that wait, where there is a loader."""
        return self.feeder.waiting_bytes if self.feeder is not None else None

    # -- what it knows of itself

    def metrics(self) -> IntervalMetrics:
        """Totals since the start.

        Minibatches count from the time when their fetch begins, up to `depth` ahead of the trainer. Those
        that are dropped, of an epoch left early or one that never comes, then count as wasted rows alone.
        """
        return self._meter.total(self.plan, self._planner.refused)

    def route_state(self) -> list[dict[str, object]]:
        """Per partition: the transport in use, whether it is a fallback, and why."""
        return self._core.route_state()

    def _description(self) -> dict[str, Any]:
        source = self.source
        return {
            "policy": self.options.policy,
            "policy_settings": asdict(self.options.policy_settings),
            "plan": str(self.plan),
            "depth": self.plan.depth,
            "rows": self.rows,
            "remote_rows": self.remote_rows,
            "halo_rows": source.halo_rows,
            "row_bytes": source.row_bytes,
            "row_shape": list(source.row_shape),
            "dtype": str(source.dtype),
            "partitions": len(source.part_starts) - 1,
            "local_part": source.local_part,
            "capacity_rows": self._planner.buffer_rows,
            "window_rows": self._planner.window_rows,
            "memory": self._core.memory(),
            "routes": self._core.route_state(),
        }

    def close(self) -> None:
        """Write the last metrics and stop all threads; waiting calls raise ClosedError. Idempotent."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self._planner.give_back()
        # The core first: with its thread gone, the last metrics and the end of the record tell of the same
        # rows.
        self._core.close()
        try:
            last = self._meter.finish(self.plan, self._planner.refused, failed=lifetime.failing())
            if last is not None:
                self._planner.finish(last)
            if self._recorder is not None:
                self._recorder.close()
        finally:
            self._planner.close()

    def __enter__(self) -> Prefetcher:
        """Use as a context: closed at its end."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close."""
        self.close()
