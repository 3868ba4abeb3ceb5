"""A trainer for `rudder bench agent --measured`: a workload in real time, its rows from a peer over UCX.

`python -m rudder.bench.trainer`: one JSON object per line on both streams. First {"place", "kind", "seed",
"interval", "model", "guard", "length"} in, and the secret in the environment; then a line {"controller"} for
each run. Out comes {"rate"} whenever the link is to become another, {"ready"} before a run, which starts
when a line is in, and {"run"} after it.

The accesses, and the times of sampling and training, are the workload's; sampling and training sleep, so that
many trainers fit on a few cores. What is fetched is real, and every row is compared with what the peer must
have sent.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rudder.bench.far_side import FarSide, RemoteTable
from rudder.bench.outlet import Outlet
from rudder.bench.rows import rows_at
from rudder.bench.settings import FetchSettings
from rudder.bench.transports import Transports
from rudder.errors import RudderError, VerifyError
from rudder.launch.child import die_with_parent
from rudder.loader import PrefetchLoader
from rudder.metrics import IntervalMetrics
from rudder.options import Options
from rudder.plan import Plan
from rudder.prefetcher import Prefetcher
from rudder.rollout.generate import workload
from rudder.rollout.simulator import WAITING_SHARE
from rudder.rollout.workload import Workload
from rudder.sampling import Prepared
from rudder.serve.secret import secret_of_job
from rudder.source import Bytes, FeatureSource, Ids

_PEER = 1


@dataclass(frozen=True)
class Run:
    """One run of the workload under one controller."""

    controller: str
    #: Wall time of a step: sampling, rows and training.
    step_ms: float
    rows_moved: int
    #: Plans that differed from the one before.
    changes: int
    rolled_back: int
    #: Decisions of the agent that came after their boundary.
    late: int


class PeerSource(FeatureSource):
    """A workload's rows, all with one peer."""

    def __init__(self, load: Workload, transports: Transports, table: RemoteTable, seed: int) -> None:
        """``seed``: of the peer's table."""
        self._transports, self._table, self._seed = transports, table, seed
        self.name = "workload"
        self.row_shape, self.dtype, self.row_bytes = (load.row_bytes,), np.dtype(np.uint8), load.row_bytes
        self.part_starts = np.array([0, 0, table.rows])
        self.local_part, self.local_rows = 0, None
        self.halo_rows = table.rows
        # As in a live run: VIP is what it was when the job began.
        self.priors = {"vip": lambda: load.vip[0][1], "degree": lambda: load.degree}

    def pull(self, ids: Ids) -> Bytes:
        """What the peer must send."""
        return rows_at(ids, self.row_bytes, self._seed, _PEER)

    def routes(self, table: int) -> Sequence[Sequence[Any]]:
        """By UCX."""
        return [[], [self._transports.reach("ucx", table, [self._table])]]


class Trainer:
    """Runs one workload, again and again."""

    def __init__(self, load: Workload, source: PeerSource, request: dict[str, Any], outlet: Outlet) -> None:
        """``request``: see the module."""
        self._load, self._source, self._request, self._outlet = load, source, request, outlet
        self._length = min(len(load), request["length"])

    def run(self, controller: str) -> Run:
        """From the first minibatch to the last, with an empty buffer. Raises VerifyError."""
        load, first = self._load, Plan(interval=self._request["interval"], prior="vip")
        heard: list[IntervalMetrics] = []
        options = Options(
            capacity=int(load.memory_rows[0]),
            plan=first,
            prior="vip",
            controller=controller,
            agent_model=self._request["model"] if controller == "agent" else None,
            guard=self._request["guard"],
            on_metrics=heard.append,
        )
        self._outlet.send(rate=float(load.bandwidth[0]))
        with Prefetcher(self._source, options) as table:
            self._outlet.send(ready=True)
            sys.stdin.readline()
            seconds = self._train(table)
        plans = [first, *(each.plan for each in heard)]
        return Run(
            controller,
            1000 * seconds / self._length,
            sum(each.rows_moved for each in heard),
            sum(one != other for one, other in zip(plans, plans[1:])),
            sum(each.decisions_rolled_back for each in heard),
            sum(each.decisions_late for each in heard),
        )

    def _train(self, table: Prefetcher) -> float:
        load = self._load
        began = time.perf_counter()
        waiting = int(WAITING_SHARE * float(load.memory_rows[0]) * load.row_bytes)
        loader = PrefetchLoader(self._sample(), [table], self._prepare, waiting_bytes=waiting, epochs=1)
        for t in loader:
            if t and load.bandwidth[t] != load.bandwidth[t - 1]:
                self._outlet.send(rate=float(load.bandwidth[t]))
            ids = self._ids(t)
            rows = table[ids]
            since = time.perf_counter()
            if not np.array_equal(rows, self._source.pull(ids)):
                raise VerifyError(f"minibatch {t}: rows differ from those of the peer")
            time.sleep(max(0.0, load.compute_s[t] - (time.perf_counter() - since)))
        return time.perf_counter() - began

    def _sample(self) -> Iterator[int]:
        for t in range(self._length):
            time.sleep(self._load.sampling_s[t])
            yield t

    def _prepare(self, t: int) -> Prepared:
        return Prepared(t, int(self._load.block_bytes[t]), [[self._ids(t)]])

    def _ids(self, t: int) -> Ids:
        first, last = self._load.offsets[t : t + 2]
        return self._load.ids[first:last].astype(np.int64)


def train(request: dict[str, Any], outlet: Outlet) -> None:
    """Every run that is asked for. Raises RudderErrors."""
    load = workload(request["kind"], request["seed"], held_out=True)
    secret = secret_of_job()
    settings = FetchSettings(
        row_bytes=(load.row_bytes,), transports=("ucx",), table_bytes=load.id_space * load.row_bytes
    )
    far = FarSide([tuple(request["place"])], secret)
    transports = Transports(far, settings, secret, dgl=False)
    try:
        (table,) = far.tables(settings, load.row_bytes)
        source = PeerSource(load, transports, table, settings.seed)
        trainer = Trainer(load, source, request, outlet)
        for line in sys.stdin:
            outlet.send(run=asdict(trainer.run(json.loads(line)["controller"])))
    finally:
        far.close()
        transports.close()


def main() -> None:
    """Entry point."""
    die_with_parent(int(os.environ.pop("RUDDER_PARENT")))
    outlet = Outlet()
    try:
        train(json.loads(sys.stdin.readline()), outlet)
    except RudderError as error:
        outlet.send(error=str(error), kind=type(error).__name__)
        sys.exit(1)


if __name__ == "__main__":
    main()
