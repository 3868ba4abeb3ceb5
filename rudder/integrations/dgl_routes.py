"""How rows of a DistTensor get here from each peer, decided by a real micro-transfer.

For each partition the candidates are tried on real rows, spread over its shard. One that cannot run here
says why; one whose rows are not those of the stock pull, bit for bit, is not used. What is left is used in
the order of `PREFERENCE`, and the later ones stand by as fallbacks. Every decision is logged with its
reason.
"""

from __future__ import annotations

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

#: Best first. Shared memory has no protocol at all; the KVStore works on every DistDGL deployment.
PREFERENCE = ("shm", "kvstore")
# Rows of a micro-transfer: enough to outweigh one call's fixed cost, few enough to be free at start-up.
_PROBE_ROWS = 256
# A probe that takes this long is as good as failed.
_PROBE_SECONDS = 10.0


@dataclass
class _Verdict:
    """What a micro-transfer said of a candidate; ``transport`` is None where it cannot be used."""

    name: str
    transport: Transport | None
    reason: str


def check_transport(wanted: str | None) -> None:
    """Raise ConfigError for a name that is no transport."""
    if wanted is not None and wanted not in PREFERENCE:
        raise ConfigError(f"transport {wanted!r}: use {', '.join(PREFERENCE)}, or None to measure")


def choose(source: FeatureSource, table: int, key: str, wanted: str | None) -> list[list[Transport]]:
    """Per partition its transports, best first. Raises TransportError where the one asked for fails."""
    starts = source.part_starts
    parts = len(starts) - 1
    kvstore = pull_routes(source, table, "kvstore")
    routes: list[list[Transport]] = [[] for _ in range(parts)]
    for part in range(parts):
        rows = int(starts[part + 1] - starts[part])
        if part == source.local_part:
            continue
        if rows == 0:
            routes[part] = kvstore[part]
            continue
        ids = starts[part] + np.unique(np.linspace(0, rows - 1, _PROBE_ROWS).astype(np.int64))
        began = time.perf_counter()
        truth = source.pull(ids)
        stock = time.perf_counter() - began
        verdicts = [_Verdict("kvstore", kvstore[part][0], f"the stock pull, {_per_row(stock, ids)}")]
        if wanted != "kvstore":
            verdicts.insert(0, _try_shm(source, table, key, part, ids, truth, kvstore))
        usable = [v for v in verdicts if v.transport is not None and wanted in (None, v.name)]
        if not usable:
            reasons = "; ".join(f"{v.name}: {v.reason}" for v in verdicts if v.name == wanted)
            raise TransportError(f"{source.name}: partition {part} cannot be reached by {reasons}", part)
        routes[part] = [v.transport for v in usable if v.transport is not None]
        _log.info(
            "%s: partition %d by %s%s (%s)",
            source.name,
            part,
            usable[0].name,
            ", as asked" if wanted else "",
            "; ".join(f"{v.name}: {v.reason}" for v in verdicts),
        )
    return routes


def _try_shm(
    source: FeatureSource,
    table: int,
    key: str,
    part: int,
    ids: Ids,
    truth: Bytes,
    others: Sequence[Sequence[Transport]],
) -> _Verdict:
    from rudder._core import ShmTransport

    if part not in dgl_hosts.local_hosts():
        return _Verdict("shm", None, "its shared memory cannot be opened from here")
    rows = int(source.part_starts[part + 1] - source.part_starts[part])
    transport = ShmTransport()
    try:
        transport.attach(part, table, dgl_hosts.kvdata_segment(part, key), rows, source.row_bytes)
        seconds, got = _transfer(source, table, part, transport, ids, others)
    except RudderError as error:
        return _Verdict("shm", None, str(error))
    if differ(got, truth, lambda: source.pull(ids)):
        return _Verdict("shm", None, "its rows differ from those of the stock pull")
    return _Verdict("shm", transport, f"same rows as the stock pull, {_per_row(seconds, ids)}")


def differ(got: Bytes, before: Bytes, pull: Callable[[], Bytes]) -> bool:
    """Whether fetched rows are other than the stock pull's, ``before`` being pulled before they were fetched.

    Another trainer may write to the tensor meanwhile: rows that a second pull, after the fetch, finds
    changed say nothing of the transport, and are left out.
    """
    if np.array_equal(got, before):
        return False
    steady = (before == pull()).all(axis=1)
    return not np.array_equal(got[steady], before[steady])


def _transfer(
    source: FeatureSource,
    table: int,
    part: int,
    transport: Transport,
    ids: Ids,
    others: Sequence[Sequence[Transport]],
) -> tuple[float, Bytes]:
    """Fetch rows of a partition by one transport alone, through a core without a buffer: the seconds and the
    rows.

    ``others``: routes to the partitions that are not asked for; the core wants one to each.
    """
    from rudder import _core

    starts = source.part_starts
    probe = _core.Prefetcher(
        table=table,
        row_bytes=source.row_bytes,
        part_starts=starts,
        local_part=source.local_part,
        local_rows=source.local_rows,
        routes=[[transport] if p == part else others[p] for p in range(len(starts) - 1)],
        capacity_rows=0,
        window_rows=0,
        policy="none",
        deadline_s=_PROBE_SECONDS,
    )
    try:
        out = np.empty((len(ids), source.row_bytes), dtype=np.uint8)
        probe.read(ids, out)  # the first touch maps pages
        began = time.perf_counter()
        probe.read(ids, out)
        return time.perf_counter() - began, out
    finally:
        probe.close()


def _per_row(seconds: float, ids: Ids) -> str:
    return f"{seconds / len(ids) * 1e6:.2g} us a row"
