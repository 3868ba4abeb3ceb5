"""A trainer's conversation with one feature server's door."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence

from rudder.errors import ConfigError, TransportError
from rudder.serve import handshake
from rudder.serve.door import keep_alive
from rudder.serve.frames import MEMBER_BYTES, FrameReader, WireError, framed
from rudder.serve.handshake import CLIENT, SERVER, Seal
from rudder.serve.messages import NAME, Admitted, Denied, Enter, Message, Open, Opened, decode, encode

#: Seconds for the whole way in, and for each answer later.
PATIENCE_S = 5.0
_READ_BYTES = 16 << 10


# A forked child would otherwise keep sessions open that its parent ended.
_open_sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()


def _leave_to_parent() -> None:
    for sock in list(_open_sockets):
        sock.close()  # of this process's descriptor alone: no shutdown


os.register_at_fork(after_in_child=_leave_to_parent)


def _connect(
    host: str, port: int, patience_s: float, begins: Callable[[socket.socket], None]
) -> socket.socket:
    failure = OSError(f"{host} has no address")
    for family, kind, protocol, _, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            begins(sock)
            sock.settimeout(patience_s)
            sock.connect(place)
        except OSError as error:
            failure = error
            sock.close()
        else:
            return sock
    raise failure


class DoorClient:
    """A session with the server of one partition; it lasts as long as the connection. Thread-safe."""

    def __init__(
        self,
        host: str,
        port: int,
        secret: bytes,
        partition: int,
        address: bytes,
        hosts: Sequence[str] = (),
        patience_s: float = PATIENCE_S,
        begins: Callable[[socket.socket], None] = lambda sock: None,
    ) -> None:
        """Enter. ``address``: of this process's worker, whose connections come from ``hosts``.

        ``begins`` is given each socket before anything is waited for: who shuts it down ends the attempt; an
        OSError of its own does, too. Raises TransportError, which names the partition.
        """
        #: Where the server listens.
        self.place = f"{host}:{port}"
        #: The server, in words.
        self.who = f"the feature server of partition {partition} at {self.place}"
        self._partition, self._patience = partition, patience_s
        self._lock = threading.Lock()
        self._reader = FrameReader(MEMBER_BYTES)
        until = time.monotonic() + patience_s
        try:
            self._sock = _connect(host, port, patience_s, begins)
        except OSError as error:
            raise TransportError(f"{self.who} cannot be reached: {error}", partition) from error
        try:
            _open_sockets.add(self._sock)
            keep_alive(self._sock)
            self._prove(secret, until)
            answer = self._ask(Enter(partition, address, tuple(hosts)), until)
        except BaseException:
            self._sock.close()
            raise
        if not isinstance(answer, Admitted):
            self._sock.close()
            raise TransportError(f"{self.who} answered with {type(answer).__name__} to Enter", partition)
        #: What the transport needs for `connect`.
        self.session, self.token, self.server_address = answer.session, answer.token, answer.address
        self.server_version = answer.version
        #: Where the server's UCX connections may come from.
        self.server_hosts: tuple[str, ...] = (*answer.hosts, self._sock.getpeername()[0])

    def open(self, table: int, name: str, rows: int, row_bytes: int) -> Opened:
        """Ask to read a table under this number. Raises TransportError, ConfigError for an odd name."""
        if NAME.fullmatch(name) is None:
            raise ConfigError(
                f"a table named {name!r} cannot be asked for by name: use letters, digits, _.:~"
            )
        with self._lock:
            answer = self._ask(Open(table, rows, row_bytes, name), time.monotonic() + self._patience)
        if not isinstance(answer, Opened) or answer.table != table:
            raise TransportError(f"{self.who} answered with {answer} to Open", self._partition)
        return answer

    def wait_until_gone(self) -> None:
        """Wait until the connection has ended, at either side."""
        poll = select.poll()
        poll.register(self._sock, select.POLLRDHUP)  # errors and hang-ups are told anyway
        poll.poll()

    def end(self) -> None:
        """End the session from any thread: `wait_until_gone` returns."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it and let the socket go. REQUIRES: nobody waits any more."""
        self.end()
        self._sock.close()

    def _prove(self, secret: bytes, until: float) -> None:
        mine = handshake.greeting(CLIENT)
        theirs = self._exchange(mine, until)
        with self._broken_rules():
            handshake.check_greeting(theirs, SERVER)
        greetings = mine + theirs
        answer = self._exchange(handshake.proof(secret, CLIENT, greetings), until)
        with self._broken_rules():
            handshake.check_proof(answer, secret, SERVER, greetings)
        self._ours, self._theirs = Seal(secret, CLIENT, greetings), Seal(secret, SERVER, greetings)

    def _ask(self, message: Message, until: float) -> Message:
        """The answer to a sealed message. Raises TransportError where it is a denial."""
        with self._broken_rules():
            body = encode(message)
        frame = self._exchange(self._ours.close(body), until)
        with self._broken_rules():
            answer = decode(self._theirs.open(frame))
        if isinstance(answer, Denied):
            raise TransportError(f"{self.who} denies it: {answer.reason}", self._partition)
        return answer

    def _exchange(self, body: bytes, until: float) -> bytes:
        """Send a frame; the next one that comes. After a TransportError the connection is over."""
        with self._broken_rules():
            self._wait(until)
            self._sock.sendall(framed(body))
            while (frame := self._reader.next()) is None:
                self._wait(until)
                data = self._sock.recv(_READ_BYTES)
                if not data:
                    raise ConnectionResetError("it closed the connection")
                self._reader.feed(data)
        refused = handshake.refusal_in(frame)
        if refused is not None:
            self.end()
            raise TransportError(f"{self.who} refuses: {refused}", self._partition)
        return frame

    def _wait(self, until: float) -> None:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no answer within {self._patience:g} s")
        self._sock.settimeout(left)

    @contextlib.contextmanager
    def _broken_rules(self) -> Iterator[None]:
        """Whatever breaks the conversation ends it, as a TransportError."""
        try:
            yield
        except (OSError, WireError) as error:
            self.end()
            raise TransportError(f"{self.who} does not answer: {error}", self._partition) from error
