"""How long a fetch takes however little it fetches: measured once per run, by fetches of one row.

While training, fetches overlap, and the time that they are under way does not tell latency from bandwidth.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rudder.errors import RudderError

if TYPE_CHECKING:
    from rudder._core import Transport
    from rudder.source import Ids

_log = logging.getLogger("rudder")
#: What is assumed where no peer could be asked.
ASSUMED_S = 1e-4
# The best of so many counts: the machine is busy when a job starts, and connections are opened by the first.
_TRIES = 4
# Of all peers together; half of it is longer than any latency that prefetching could hide.
_DEADLINE_S = 2.0


@dataclass(frozen=True)
class _Group:
    """Peers that one transport reaches."""

    transport: Transport
    peers: list[int]


def first_row_seconds(
    routes: Sequence[Sequence[Transport]], *, table: int, part_starts: Ids, row_bytes: int
) -> float | None:
    """Seconds that a row takes from the peer that is farthest away, by the transport that is used first.

    A minibatch has its rows when the last of its peers has answered. Peers that fail now, or say nothing, are
    left out; None where no other is left. All are asked at the same time: however many say nothing, the start
    is delayed by one deadline.
    """
    groups: dict[int, _Group] = {}
    for peer, ladder in enumerate(routes):
        if ladder and part_starts[peer + 1] > part_starts[peer]:
            groups.setdefault(id(ladder[0]), _Group(ladder[0], [])).peers.append(peer)
    until = time.monotonic() + _DEADLINE_S
    shared = [group for group in groups.values() if len(group.peers) > 1]
    single = [group for group in groups.values() if len(group.peers) == 1]

    def ask(group: _Group) -> float | None:
        return _seconds(group, table, row_bytes, until)

    def ask_shared(group: _Group) -> float | None:
        # As a minibatch does. One peer that does not answer spoils it for all: then each is asked by itself.
        return _seconds(group, table, row_bytes, until - _DEADLINE_S / 2)

    with _threads(groups) as threads:
        later = threads.map(ask, single)
        at_once = list(threads.map(ask_shared, shared))
        alone = [
            _Group(group.transport, [peer])
            for group, seconds in zip(shared, at_once)
            if seconds is None
            for peer in group.peers
        ]
        with _threads(alone) as more:
            found = [*at_once, *more.map(ask, alone), *later]
    return max((seconds for seconds in found if seconds is not None), default=None)


def _threads(jobs: Sized) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, len(jobs)), thread_name_prefix="rudder-latency")


def _seconds(group: _Group, table: int, row_bytes: int, until: float) -> float | None:
    """The best of a few requests for one row of each peer; None where none was answered in time."""
    from rudder._core import TransportProbe

    rows = np.zeros((1, len(group.peers)), dtype=np.int64)
    out = np.empty((len(group.peers), row_bytes), dtype=np.uint8)
    best = None
    try:
        for _ in range(_TRIES):
            left = until - time.monotonic()
            if left <= 0:
                break
            probe = TransportProbe(
                group.transport, table=table, row_bytes=row_bytes, peers=group.peers, deadline_s=left
            )
            seconds = float(probe.run(rows, out)[1][0]) / 1e9
            best = seconds if best is None else min(best, seconds)
    except RudderError as error:
        _log.debug("how far away partitions %s are, is not known: %s", group.peers, error)
    return best
