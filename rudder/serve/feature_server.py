"""What the door opens: sessions and tables of one partition's `UcxServer`."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from rudder.errors import ConfigError, TransportError
from rudder.serve.messages import Admitted, Opened, ipv4

if TYPE_CHECKING:
    from rudder._ucx import UcxServer

_TOKEN_BYTES = 16
# On the wire a number has 32 bits: half of them are left to count on.
_FIRST_SESSIONS = 1 << 31
# Distinct tables of all sessions: bounds what is mapped.
_REGIONS = 4096


class FeatureServer:
    """A `Service` (see reception.py) over a UcxServer. Called by the door's thread alone."""

    def __init__(
        self, rows: UcxServer, partition: int, segment_of: Callable[[str], str], version: str
    ) -> None:
        """``segment_of``: the shared-memory segment of a table's name; raises ConfigError for other names.

        ``version``: of UCX in this process.
        """
        self._rows, self._partition, self._segment_of = rows, partition, segment_of
        self._version = version
        # From anywhere, so that a server that was started again repeats no number of which a client may still
        # hear that it was lost.
        self._numbers = itertools.count(secrets.randbelow(_FIRST_SESSIONS))
        self._regions: dict[tuple[str, int, int], int] = {}
        # Token and worker address of sessions that have opened nothing yet.
        self._entered: dict[int, tuple[bytes, bytes]] = {}

    def enter(self, partition: int, address: bytes, hosts: tuple[str, ...]) -> Admitted:
        """Raises TransportError for another partition than its own, or too many hosts."""
        if partition != self._partition:
            raise TransportError(
                f"it serves partition {self._partition}, not {partition}: RUDDER_FEATURE_SERVERS must name "
                "the servers in the order of partitions",
                partition,
            )
        session, token = next(self._numbers), secrets.token_bytes(_TOKEN_BYTES)
        # Before the answer, with which the client begins to connect.
        self._rows.let_in(session, ipv4(hosts))
        self._entered[session] = (token, address)
        return Admitted(session, token, self._rows.address, tuple(self._rows.hosts), self._version)

    def open(self, session: int, table: int, name: str, rows: int, row_bytes: int) -> Opened:
        """Raises ConfigError, TransportError for a table that is not there, or not so long.

        The first time also for a worker's address that UCX refuses: only now has the client, who knows this
        server's hosts from `Admitted`, let them in.
        """
        if session in self._entered:
            self._rows.admit(session, *self._entered.pop(session))
        key = (name, rows, row_bytes)
        if key not in self._regions:
            if len(self._regions) == _REGIONS:
                raise ConfigError(f"it serves {_REGIONS} tables, and no more")
            self._regions[key] = self._rows.expose(self._segment_of(name), rows, row_bytes)
        region = self._regions[key]
        self._rows.grant(session, table, region)
        return Opened(table, *self._rows.offer(region))

    def leave(self, session: int) -> None:
        """Forget the session."""
        self._entered.pop(session, None)
        self._rows.dismiss(session)

    def ended(self) -> list[int]:
        """Sessions whose peer the transport lost."""
        return self._rows.dismissed()
