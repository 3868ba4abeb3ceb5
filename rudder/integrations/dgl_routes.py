"""How rows of a DistTensor get here from each peer, decided by a real micro-transfer.

For each partition the candidates are tried on real rows, spread over its shard. One that cannot run here
says why; one whose rows are not those of the stock pull, bit for bit, is not used, and neither is one that
is much slower than it. What is left is used in the order of `PREFERENCE`, or in the order that the caller
names, and the later ones stand by as fallbacks. Every decision is logged with its reason.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rudder.errors import ConfigError, RudderError, TransportError
from rudder.integrations import dgl_hosts
from rudder.source import Bytes, FeatureSource, Ids, pull_routes

if TYPE_CHECKING:
    from rudder._core import Transport

_log = logging.getLogger("rudder")

#: Best first. Shared memory has no protocol at all, ucx needs feature servers; the KVStore works on every
#: DistDGL deployment.
PREFERENCE = ("shm", "ucx", "kvstore")
# Rows of a micro-transfer: enough to outweigh one call's fixed cost, few enough to be free at start-up.
_PROBE_ROWS = 256
# The best of so many counts: the machine is busy when a job starts.
_REPEATS = 3
# A probe that takes this long is as good as failed.
_PROBE_SECONDS = 10.0
# A network transport that needs more than this multiple of the stock pull's time is on a wrong path (a
# management network, an emulated device); less may be chance.
_TOO_SLOW = 2.0


@dataclass
class _Verdict:
    """What a micro-transfer said of a candidate; ``transport`` is None where it cannot be used."""

    name: str
    transport: Transport | None
    reason: str
    seconds: float = 0.0


def parse_ladder(wanted: str | None) -> tuple[str, ...] | None:
    """``"ucx,kvstore"``: use these, the best first, and no other; None: measure. Raises ConfigError."""
    if wanted is None:
        return None
    ladder = tuple(name.strip() for name in wanted.split(","))
    if not set(ladder) <= set(PREFERENCE) or len(set(ladder)) < len(ladder):
        raise ConfigError(
            f"transport {wanted!r}: use {', '.join(PREFERENCE)}, several with commas (the first that works "
            "is used, the later ones are its fallbacks), or None to measure"
        )
    return ladder


def choose(
    source: FeatureSource, table: int, key: str, ladder: tuple[str, ...] | None
) -> list[list[Transport]]:
    """Per partition its transports, best first; ``ladder`` as `parse_ladder` has it.

    Raises TransportError where none of those asked for can be used.
    """
    starts = source.part_starts
    parts = len(starts) - 1
    kvstore = pull_routes(source, table, "kvstore")
    routes: list[list[Transport]] = [[] for _ in range(parts)]
    _enter_servers(source, ladder)
    for part in range(parts):
        if part == source.local_part:
            continue
        if starts[part + 1] == starts[part]:
            routes[part] = kvstore[part]
            continue
        trial = _Trial(source, table, key, part, kvstore)
        verdicts = trial.measured() if ladder is None else [trial.of(name) for name in ladder]
        reasons = "; ".join(f"{v.name}: {v.reason}" for v in verdicts)
        usable = [v for v in verdicts if v.transport is not None]
        if not usable:
            raise TransportError(f"{source.name}: partition {part} cannot be reached by {reasons}", part)
        routes[part] = [v.transport for v in usable if v.transport is not None]
        asked = ", as asked" if ladder else ""
        place = routes[part][0].place(part)
        by = f"{usable[0].name} from {place}" if place else usable[0].name
        _log.info("%s: partition %d by %s%s (%s)", source.name, part, by, asked, reasons)
    return routes


def _enter_servers(source: FeatureSource, ladder: tuple[str, ...] | None) -> None:
    """Enter the feature servers that will be tried, together: those that say nothing take their time once."""
    near = dgl_hosts.local_hosts() if ladder is None else []
    far = [
        part
        for part, rows in enumerate(np.diff(source.part_starts))
        if rows and part != source.local_part and part not in near
    ]
    if not far or (ladder is not None and "ucx" not in ladder):
        return
    from rudder.serve import connector

    with contextlib.suppress(RudderError):  # the verdicts will say it
        connector.shared(source.local_part).enter(far)


class _Trial:
    """The candidates for one partition of a table, tried on the same rows."""

    def __init__(
        self, source: FeatureSource, table: int, key: str, part: int, kvstore: Sequence[Sequence[Transport]]
    ) -> None:
        self._source, self._table, self._key, self._part = source, table, key, part
        self._kvstore = kvstore
        first = int(source.part_starts[part])
        self._rows = int(source.part_starts[part + 1]) - first
        self._ids: Ids = first + np.unique(np.linspace(0, self._rows - 1, _PROBE_ROWS).astype(np.int64))
        self._truth = source.pull(self._ids)
        self._stock = _best(lambda: source.pull(self._ids))

    def measured(self) -> list[_Verdict]:
        """All that may be used, in the order of `PREFERENCE`."""
        verdicts = [self.of("shm")]
        if verdicts[0].transport is None:
            verdicts.append(self.of("ucx"))
            if verdicts[1].seconds > _TOO_SLOW * self._stock:
                verdicts[1].transport = None
                verdicts[1].reason += f", more than {_TOO_SLOW:g} times the stock pull's time"
        return [*verdicts, self.of("kvstore")]

    def of(self, name: str) -> _Verdict:
        """One candidate's verdict."""
        if name == "kvstore":
            reason = f"the stock pull, {self._per_row(self._stock)}"
            return _Verdict(name, self._kvstore[self._part][0], reason, self._stock)
        try:
            transport = self._shm() if name == "shm" else self._ucx()
            seconds, got = self._transfer(transport)
            if self._differ(got):
                return _Verdict(name, None, "its rows differ from those of the stock pull")
            reason = f"same rows as the stock pull, {self._per_row(seconds)}"
            if name == "ucx":
                seconds, more = self._gets(seconds)
                reason += more
        except RudderError as error:
            return _Verdict(name, None, str(error))
        return _Verdict(name, transport, reason, seconds)

    def _gets(self, asked: float) -> tuple[float, str]:
        """Have the rows come by one-sided gets where that is quicker: seconds from then on, and words."""
        from rudder.serve import connector

        transport = connector.shared(self._source.local_part).transport
        why = transport.why_no_gets(self._part, self._table)
        if why:
            return asked, f", one-sided gets off: {why}"
        transport.use_gets(self._part, self._table, True)
        try:
            seconds, got = self._transfer(transport)
            right = not self._differ(got)
        except RudderError as error:
            transport.use_gets(self._part, self._table, False)
            return asked, f", one-sided gets off: {error}"
        taken = f"{self._per_row(seconds)} by them"
        if right and seconds < asked:
            return seconds, f", one-sided gets on: {taken}"
        transport.use_gets(self._part, self._table, False)
        return asked, f", one-sided gets off: {taken if right else 'their rows differ'}"

    def _differ(self, got: Bytes) -> bool:
        return differ(got, self._truth, lambda: self._source.pull(self._ids))

    def _shm(self) -> Transport:
        from rudder._core import ShmTransport

        if self._part not in dgl_hosts.local_hosts():
            raise TransportError("its shared memory cannot be opened from here")
        transport = ShmTransport()
        segment = dgl_hosts.kvdata_segment(self._part, self._key)
        transport.attach(self._part, self._table, segment, self._rows, self._source.row_bytes)
        return transport

    def _ucx(self) -> Transport:
        from rudder.serve import connector

        servers = connector.shared(self._source.local_part)
        servers.open(self._part, self._table, self._key, self._rows, self._source.row_bytes)
        return servers.transport

    def _transfer(self, transport: Transport) -> tuple[float, Bytes]:
        """Fetch the rows by one transport alone, through a core without a buffer: the seconds, the rows."""
        from rudder import _core

        source = self._source
        # The core wants a route to each partition; those to the others are not used.
        routes = [[transport] if p == self._part else each for p, each in enumerate(self._kvstore)]
        probe = _core.Prefetcher(
            table=self._table,
            row_bytes=source.row_bytes,
            part_starts=source.part_starts,
            local_part=source.local_part,
            local_rows=source.local_rows,
            routes=routes,
            capacity_rows=0,
            window_rows=0,
            policy="none",
            deadline_s=_PROBE_SECONDS,
        )
        try:
            out = np.empty((len(self._ids), source.row_bytes), dtype=np.uint8)
            probe.read(self._ids, out)  # the first touch maps pages, or opens connections
            return _best(lambda: probe.read(self._ids, out)), out
        finally:
            probe.close()

    def _per_row(self, seconds: float) -> str:
        return f"{seconds / len(self._ids) * 1e6:.2g} us a row"


def _best(call: Callable[[], object]) -> float:
    """Seconds of the quickest of a few calls."""
    spent = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        call()
        spent.append(time.perf_counter() - began)
    return min(spent)


def differ(got: Bytes, before: Bytes, pull: Callable[[], Bytes]) -> bool:
    """Whether fetched rows are other than the stock pull's, ``before`` being pulled before they were fetched.

    Another trainer may write to the tensor meanwhile: rows that a second pull, after the fetch, finds
    changed say nothing of the transport, and are left out.
    """
    if np.array_equal(got, before):
        return False
    steady = (before == pull()).all(axis=1)
    return not np.array_equal(got[steady], before[steady])
