"""How long a fetch takes however little it fetches: measured once per run, by fetches of one row.

While training, fetches overlap, and the time that they are under way does not tell latency from bandwidth.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
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
# Longer than any latency that prefetching could hide.
_DEADLINE_S = 2.0


def first_row_seconds(
    routes: Sequence[Sequence[Transport]], *, table: int, part_starts: Ids, row_bytes: int
) -> float | None:
    """Seconds that a row takes from the peer that is farthest away, by the transport that is used first.

    A minibatch has its rows when the last of its peers has answered. Peers that fail now are left out; None
    where no other is left.
    """
    found = [
        _from_peer(ladder[0], peer, table, row_bytes)
        for peer, ladder in enumerate(routes)
        if ladder and part_starts[peer + 1] > part_starts[peer]
    ]
    return max((seconds for seconds in found if seconds is not None), default=None)


def _from_peer(transport: Transport, peer: int, table: int, row_bytes: int) -> float | None:
    from rudder._core import TransportProbe

    rows = np.zeros((_TRIES, 1), dtype=np.int64)
    out = np.empty((_TRIES, row_bytes), dtype=np.uint8)
    try:
        probe = TransportProbe(
            transport, table=table, row_bytes=row_bytes, peers=[peer], deadline_s=_DEADLINE_S
        )
        _, nanoseconds = probe.run(rows, out)
    except RudderError as error:
        _log.debug("how far away partition %d is, is not known: %s", peer, error)
        return None
    return float(nanoseconds.min()) / 1e9
