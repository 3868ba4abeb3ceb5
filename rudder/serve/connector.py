"""The trainers' side of all feature servers of a job: one transport for the process, one session a server.

A server that is lost (its connection ends, or the transport loses its worker) is asked for again, with
patience that grows, so that one that was restarted serves again without anybody's doing.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rudder import lifetime, ucx
from rudder.errors import ClosedError, RudderError, TransportError
from rudder.serve.client import DoorClient
from rudder.serve.messages import ipv4
from rudder.serve.places import ENV_SERVERS, Places, places_of_job
from rudder.serve.secret import secret_of_job

if TYPE_CHECKING:
    from rudder._ucx import UcxTransport

_log = logging.getLogger("rudder")

# Between two attempts to reach a lost server: the first is soon, for one that was only restarted; the last
# keeps a thousand trainers from knocking all the time.
_FIRST_DELAY_S = 1.0
_LAST_DELAY_S = 30.0
# At the start of a job its feature servers may come up a little later than the trainers. Of all together: a
# job whose servers never come does not wait for each of them.
_START_S = 5.0
_START_TICK_S = 0.1

# What the threads may take to end, all together. They are told to, and wait for nothing but a resolver.
_END_S = 5.0
_END_TICK_S = 0.1

#: Name, rows, bytes of a row.
_Table = tuple[str, int, int]


class Connector:
    """Sessions with the feature servers of a job, by partition. Thread-safe."""

    def __init__(self, servers: Places, secret: bytes, own: int | None = None) -> None:
        """``servers``: (host, port) by partition; ``own``: this host's, whose interface is used.

        Nothing is connected before `open`. Raises TransportError where UCX is not usable.
        """
        compiled = ucx.load()
        self._servers, self._secret = servers, secret
        self._closed = threading.Event()
        devices = "" if own is None else _devices_of(servers, own)
        #: The transport that reaches every table opened here.
        self.transport: UcxTransport = compiled.UcxTransport(devices=devices)
        ucx.tell_if_open(self.transport.why_open)
        self._start_until = time.monotonic() + _START_S
        self._lock = threading.Lock()
        self._peers: dict[int, _Peer] = {}
        self._losses = threading.Thread(target=self._tell, name="rudder-ucx-losses", daemon=True)
        self._losses.start()
        lifetime.register_connection(self)

    def open(self, part: int, table: int, name: str, rows: int, row_bytes: int) -> None:
        """Make a table of a partition reachable by `transport`. Raises TransportError, ConfigError."""
        self._peer(part).open(table, (name, rows, row_bytes))

    def enter(self, parts: Iterable[int]) -> None:
        """Enter the servers of these partitions all at once, so that the silent are waited for together.

        Of those that could not be entered `open` tells. Raises ClosedError.
        """
        threads = []
        for part in parts:
            target = self._peer(part).enter
            threads.append(threading.Thread(target=target, name=f"rudder-ucx-enter-{part}", daemon=True))
            threads[-1].start()
        for thread in threads:
            thread.join()

    def _peer(self, part: int) -> _Peer:
        if self.closed():
            raise ClosedError("the connections to the feature servers are closed")
        with self._lock:
            if part not in self._peers:
                self._peers[part] = _Peer(
                    part, self._servers, self.transport, self._secret, self._closed, self._start_until
                )
            return self._peers[part]

    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed.is_set()

    def close(self) -> None:
        """End every session, and attempts to open one. Idempotent."""
        self._closed.set()
        with self._lock:
            peers = list(self._peers.values())
        for peer in peers:
            peer.end()
        until = time.monotonic() + _END_S
        for peer in peers:
            peer.join(until)
        self.transport.close()
        # However busy the machine is: a thread that is on its way back from the transport when the
        # interpreter ends would end the process. It waits for nothing else.
        self._losses.join()

    def _tell(self) -> None:
        """Have each peer know of the loss of its connection, until the transport is closed."""
        while (loss := self.transport.next_loss()) is not None:
            part, session, why = loss
            self._peers[part].lost(session, why)


def _devices_of(servers: Places, own: int) -> str:
    """The devices of the interface on which this host's own server listens.

    Chosen once for the life of the process, so a server that still starts is waited for.
    """
    until = time.monotonic() + _START_S
    while True:
        try:
            return ucx.devices(servers[own][0])
        except (IndexError, TransportError) as error:
            if isinstance(error, IndexError) or time.monotonic() > until:
                _log.warning(
                    "no feature server on this host says which network the job uses (%s): UCX uses any", error
                )
                return ""
            time.sleep(_START_TICK_S)


class _Peer:
    """One partition's server: away -> entered -> (lost -> entered again)*."""

    def __init__(
        self,
        part: int,
        servers: Places,
        transport: UcxTransport,
        secret: bytes,
        closed: threading.Event,
        start_until: float,
    ) -> None:
        self._part, self._servers = part, servers
        self._transport, self._secret, self._closed = transport, secret, closed
        self._start_until = start_until
        self._attempt: socket.socket | None = None  # the last one to enter
        self._lock = threading.Lock()  # guards what follows
        self._client: DoorClient | None = None
        self._tables: dict[int, _Table] = {}
        self._why = ""
        self._thread: threading.Thread | None = None
        self._refused: tuple[float, RudderError] | None = None  # when, and why, it could not be entered

    def enter(self) -> None:
        with self._lock, contextlib.suppress(RudderError):  # `open` raises it
            self._be_watched()

    def open(self, table: int, what: _Table) -> None:
        with self._lock:
            self._be_watched()
            if self._client is None:
                raise TransportError(
                    f"the feature server of partition {self._part} is away: {self._why}", self._part
                )
            self._open(self._client, table, what)
            self._tables[table] = what

    def lost(self, session: int, why: str) -> None:
        """The transport lost the connection of this session; a later one of the same server goes on."""
        # The other peers' losses come by the same thread: no waiting for the lock, which an attempt to enter
        # may hold for seconds.
        client = self._client
        if client is not None and client.session == session:
            self._why = why
            client.end()

    def end(self) -> None:
        """End the session, or the attempt to open one. REQUIRES: closed."""
        attempt = self._attempt  # the session's connection, too
        if attempt is not None:
            with contextlib.suppress(OSError):
                attempt.shutdown(socket.SHUT_RDWR)

    def join(self, until: float) -> None:
        """Wait until the peer is no longer watched. REQUIRES: closed."""
        while self._thread is not None and self._thread.is_alive() and (left := until - time.monotonic()) > 0:
            self.end()  # again: a socket that had not begun to connect takes no notice
            self._thread.join(min(left, _END_TICK_S))

    def _begins(self, sock: socket.socket) -> None:
        self._attempt = sock
        if self._closed.is_set():  # `end` may have come before it was there
            raise ConnectionAbortedError("the connections to the feature servers are closed")

    def _be_watched(self) -> None:
        """Enter where that was not done yet, and watch the connection from then on. REQUIRES: locked."""
        if self._thread is None:
            self._enter_first()
            self._thread = threading.Thread(target=self._keep, name=f"rudder-ucx-{self._part}", daemon=True)
            self._thread.start()

    def _enter_first(self) -> None:
        """Enter, waiting a little for a server that still starts. REQUIRES: locked."""
        if self._refused is not None and time.monotonic() - self._refused[0] < _LAST_DELAY_S:
            raise self._refused[1]  # every further table would wait as long
        while True:
            try:
                self._enter()
                return
            except TransportError as error:
                # Not up yet, or crowded out by all the others that start.
                again = isinstance(error.__cause__, (ConnectionError, FileNotFoundError))
                if not again or time.monotonic() > self._start_until or self._closed.wait(_START_TICK_S):
                    self._refused = (time.monotonic(), error)
                    raise

    def _enter(self) -> None:
        """A session, with every table that is open here. REQUIRES: locked."""
        transport = self._transport
        try:
            place = self._servers[self._part]
        except IndexError:
            named = f"{ENV_SERVERS} names no feature server for partition {self._part}"
            raise TransportError(named, self._part) from None
        client = DoorClient(
            *place, self._secret, self._part, transport.address, transport.hosts, begins=self._begins
        )
        try:
            # Known before the transport is: it may lose the server at once.
            self._why, self._client = "", client
            transport.let_in(self._part, ipv4(client.server_hosts))
            transport.connect(
                self._part,
                client.server_address,
                client.session,
                client.token,
                client.server_version,
                client.place,
            )
            for table, what in self._tables.items():
                self._open(client, table, what)
        except BaseException as error:
            self._client = None
            client.close()
            with contextlib.suppress(RudderError):  # the transport may be closed
                transport.disconnect(self._part, str(error))  # its hosts are let in no longer
            raise

    def _open(self, client: DoorClient, table: int, what: _Table) -> None:
        name, rows, row_bytes = what
        opened = client.open(table, name, rows, row_bytes)
        self._transport.open(self._part, table, rows, row_bytes, opened.at, opened.key, opened.why_no_key)

    def _keep(self) -> None:
        """Watch the connection; enter again when it is lost. Ends when the connector is closed."""
        while True:
            client = self._client
            if client is None:  # closed before the server was back
                return
            client.wait_until_gone()
            with self._lock:
                self._client = None
                client.close()
            if self._closed.is_set():
                return
            why = self._why = self._why or "its connection ended"
            self._transport.disconnect(self._part, why)
            _log.warning("lost %s: %s; trying again", client.who, why)
            self._enter_again()

    def _enter_again(self) -> None:
        delay = _FIRST_DELAY_S
        while not self._closed.wait(delay):
            delay = min(2 * delay, _LAST_DELAY_S)
            try:
                with self._lock:
                    self._enter()
            except RudderError as error:
                self._why = str(error)
                continue
            _log.warning("the feature server of partition %d serves again", self._part)
            return


_shared: Connector | None = None
_sharing = threading.Lock()


def shared(own: int) -> Connector:
    """The process's connector to the servers that RUDDER_FEATURE_SERVERS names.

    ``own``: this host's partition. Raises TransportError, ConfigError where there are none, or UCX is not
    usable here.
    """
    global _shared
    with _sharing:
        if _shared is None or _shared.closed():
            _shared = Connector(places_of_job(), secret_of_job(), own)
        return _shared
