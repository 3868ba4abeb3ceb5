"""Any order of calls gives the table's rows: the core against a plain array, under every policy.

A failure prints the calls that led to it and a blob to reproduce it with. With CI set in the environment the
examples are the same in every run.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from rudder import _core
from rudder.errors import DeadlineError, StateError, TransportError
from rudder.source import Bytes, Ids, as_rows

ROWS = 90
# The last two have a partition without rows, which may be the local one.
STARTS = ([0, 20, 50, 90], [0, 30, 90], [0, 0, 40, 90], [0, 40, 40, 90])
DTYPES = ("uint8", "float16", "float32", "complex64", "float64")
WIDEST = 600
# Far beyond what any call needs; only a bug lets it pass.
SECONDS = 20.0

# By number and seed: lists that hypothesis draws are mostly short, and rows asked for once show nothing.
sizes = st.sampled_from([0, 1, 5, 20, 40])
seeds = st.integers(0, 2**16)


def some_ids(size: int, seed: int) -> Ids:
    return np.random.default_rng(seed).integers(0, ROWS, size)


class Server:
    """A peer that answers with the rows of the table as they are when it is asked; may be told to fail."""

    def __init__(self, rows: Bytes, starts: Ids) -> None:
        self.rows, self.starts, self.lock = rows, starts, threading.Lock()
        self.fails = False

    def pull(self, _table: int, parts: Ids, local_rows: Ids) -> Bytes:
        with self.lock:
            if self.fails:
                raise OSError("told to fail")
            return self.rows[self.starts[parts] + local_rows]


class Engine(RuleBasedStateMachine):
    """The model: the table itself, which minibatches wait, which was taken last."""

    policy = "lookahead"

    @initialize(data=st.data())
    def open(self, data: st.DataObject) -> None:
        def draw(strategy: st.SearchStrategy[Any]) -> Any:
            return data.draw(strategy)

        dtype = np.dtype(draw(st.sampled_from(DTYPES)))
        width = draw(st.integers(1, WIDEST // dtype.itemsize))
        self.random = np.random.default_rng(draw(st.integers(0, 9)))
        values = self.random.integers(0, 256, (ROWS, width * dtype.itemsize), dtype=np.uint8)
        self.rows = as_rows(values.view(dtype))
        starts = np.array(draw(st.sampled_from(STARTS)), dtype=np.int64)
        local = draw(st.integers(0, len(starts) - 2))
        low, high = int(starts[local]), int(starts[local + 1])
        self.remote = ROWS - (high - low)

        # Loopback reads its peer's memory without a lock, so only a server's rows are written to.
        self.server = Server(self.rows, starts) if draw(st.booleans()) else None
        self.loopback = _core.LoopbackTransport()
        spare = _core.LoopbackTransport()
        for part in range(len(starts) - 1):
            for transport in (self.loopback, spare):
                transport.expose(part, 0, self.rows[starts[part] : starts[part + 1]])
        route: list[_core.Transport] = [self.loopback]
        if self.server is not None:
            route = [_core.CallbackTransport("server", self.server.pull)]
        self.has_spare = self.server is None and draw(st.booleans())
        if self.has_spare:
            route.append(spare)

        capacity = draw(st.sampled_from([ROWS, 30, 7, 0, 10 * ROWS]))
        self.built = min(capacity, self.remote)
        self.core = _core.Prefetcher(
            table=0,
            row_bytes=self.rows.shape[1],
            part_starts=starts,
            local_part=local,
            local_rows=self.rows[low:high] if high > low else None,
            routes=[[] if part == local else route for part in range(len(starts) - 1)],
            capacity_rows=capacity,
            window_rows=draw(st.sampled_from([0, 50, 1000])),
            depth=draw(st.integers(1, 4)),
            policy=self.policy,
            prior=self.some_prior() if draw(st.booleans()) else None,
            staging_bytes=draw(st.sampled_from([1, 10 * self.rows.shape[1], 1 << 20])),
            deadline_s=SECONDS,
            threads=draw(st.integers(1, 2)),
            prefill=draw(st.booleans()),
            observe=draw(st.sampled_from([0, 3])),
            period=draw(st.sampled_from([0, 2])),
            alpha=0.5,
        )
        self.pending: dict[int, Ids] = {}
        self.taken: tuple[int, Ids] | None = None
        self.last = 0
        self.limit = self.built
        # Fetches that failed may still be on their way to whom they concern.
        self.shaky = False

    def teardown(self) -> None:
        if hasattr(self, "core"):
            self.core.close()

    def some_prior(self) -> _core.Prior:
        """Local rows have a worth too, though they are never fetched: the engine must not be misled by it."""
        return _core.Prior.from_worth(self.random.random(ROWS, dtype=np.float32))

    def check(self, ids: Ids, call: Any, *args: Any) -> bool:
        """Rows that the call writes are the table's; or it failed, and that is to be expected."""
        out = np.full((len(ids), self.rows.shape[1]), 0xA5, dtype=np.uint8)
        try:
            call(*args, out)
        except DeadlineError:
            raise
        except TransportError:
            assert self.shaky, "nothing had failed"
            return False
        assert np.array_equal(out, self.rows[ids])
        return True

    # -- the sampler's calls

    @rule(size=sizes, seed=seeds)
    def submit(self, size: int, seed: int) -> None:
        wanted = some_ids(size, seed)
        seq = self.core.submit(wanted)
        assert seq > self.last, "a number was used again"
        self.last = seq
        self.pending[seq] = wanted

    @rule(count=st.integers(2, 6), size=sizes, seed=seeds)
    def submit_many(self, count: int, size: int, seed: int) -> None:
        for number in range(count):
            self.submit(size, seed + number)

    @rule()
    def drop_pending(self) -> None:
        assert self.core.drop_pending() == len(self.pending)
        dropped, self.pending = self.pending, {}
        for seq in dropped:
            with pytest.raises(StateError):
                self.core.take(seq, SECONDS)

    # -- the trainer's

    @precondition(lambda self: self.pending)
    @rule(skip=st.integers(0, 2))
    def take_and_gather(self, skip: int) -> None:
        seq = list(self.pending)[min(skip, len(self.pending) - 1)]
        ids = self.pending[seq]
        self.pending = {later: other for later, other in self.pending.items() if later > seq}
        self.taken = None

        def take(out: Bytes) -> None:
            self.core.take(seq, SECONDS)
            self.core.gather(seq, out)

        if self.check(ids, take):
            self.taken = seq, ids

    @precondition(lambda self: self.taken is not None)
    @rule()
    def gather_again(self) -> None:
        assert self.taken is not None
        seq, ids = self.taken
        if not self.check(ids, self.core.gather, seq):
            self.taken = None

    @precondition(lambda self: self.taken is not None)
    @rule()
    def release(self) -> None:
        assert self.taken is not None
        self.core.release(self.taken[0])
        self.taken = None

    @precondition(lambda self: self.pending)
    @rule()
    def finish_epoch(self) -> None:
        while self.pending:
            self.take_and_gather(0)

    @rule(size=sizes, seed=seeds)
    def read(self, size: int, seed: int) -> None:
        wanted = some_ids(size, seed)
        self.check(wanted, self.core.read, wanted)

    @rule()
    def read_everything(self) -> None:
        everything = np.arange(ROWS, dtype=np.int64)
        self.check(everything, self.core.read, everything)

    # -- writers

    @precondition(lambda self: self.server is not None)
    @rule(size=sizes, seed=seeds, everything=st.booleans())
    def write(self, size: int, seed: int, everything: bool) -> None:
        assert self.server is not None
        written = np.unique(some_ids(size, seed))
        with self.server.lock:
            self.rows[written] = self.random.integers(
                0, 256, (len(written), self.rows.shape[1]), dtype=np.uint8
            )
        self.core.invalidate(None if everything else written)

    @rule()
    def invalidate_all(self) -> None:
        self.core.invalidate(None)

    # -- the controller

    @rule(share=st.sampled_from([0.0, 0.1, 0.5, 1.0]), depth=st.integers(1, 5), window=st.integers(0, 2000))
    def steer(self, share: float, depth: int, window: int) -> None:
        self.limit = int(share * self.built)
        self.core.steer(capacity_rows=self.limit, depth=depth, window_rows=window)
        self.core.wait_room(0)

    @rule(replace=st.booleans(), staging=st.integers(0, 1 << 16))
    def steer_prior(self, replace: bool, staging: int) -> None:
        self.core.steer(prior=self.some_prior(), replace=replace, staging_bytes=staging)

    @rule(replace=st.booleans(), observe=st.integers(0, 5), fraction=st.integers(1, 100))
    def steer_policy(self, replace: bool, observe: int, fraction: int) -> None:
        self.core.steer(replace=replace, observe=observe, fraction=fraction)

    # -- trouble

    @rule()
    def fail(self) -> None:
        self.shaky = not self.has_spare
        if self.server is not None:
            self.server.fails = True
        else:
            self.loopback.inject(fail="told to fail")

    @rule()
    def delay(self) -> None:
        if self.server is None:
            self.loopback.inject(delay_s=0.001)

    @rule()
    def heal(self) -> None:
        if self.server is not None:
            self.server.fails = False
        self.loopback.inject()

    @precondition(lambda self: self.shaky)
    @rule()
    def heal_and_settle(self) -> None:
        """Fetches end in the order in which they began: after one that moves all rows, no failure is left."""
        self.heal()
        self.taken = None
        self.core.invalidate(None)
        self.read_everything()
        self.shaky = False
        self.read_everything()

    # -- what always holds

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "core"):
            return
        count = self.core.counters()
        planned = (
            count["rows_moved"] - count["rows_replaced"] - count["rows_refetched"] - count["rows_wasted"]
        )
        assert planned >= 0
        assert count["rows_hit"] + count["rows_merged"] + planned == count["rows_requested"]
        assert count["cached_rows"] <= count["capacity_rows"] <= self.limit <= self.built


@pytest.mark.parametrize("policy", _core.policy_names())
def test_any_order_of_calls_gives_the_rows_of_the_table(policy: str) -> None:
    machine = type("Engine", (Engine,), {"policy": policy})
    run_machine(
        machine,
        settings=settings(
            max_examples=20,
            stateful_step_count=40,
            deadline=None,
            derandomize="CI" in os.environ,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
