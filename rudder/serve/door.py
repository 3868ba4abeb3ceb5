"""The door of a feature server: one listening socket, a bounded number of peers, a deadline for each.

One thread serves all peers without blocking, so that none of them can keep the others waiting:

- before it has proved the job's secret, a peer has a few seconds in all and frames of 1 KiB; when too many
  such peers are there, the one that came first has to leave;
- afterwards its connection is its session: it may be idle for ever, but a frame once begun must come, and an
  answer be taken, within seconds. TCP keepalive finds peers whose machine is gone.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import selectors
import socket
import threading
import time
from dataclasses import dataclass

from rudder.errors import ConfigError, TransportError
from rudder.serve import handshake
from rudder.serve.frames import FrameReader, WireError, framed
from rudder.serve.reception import Reception, Service
from rudder.serve.tally import Tally

_log = logging.getLogger("rudder")

#: Why peers are dropped, as `Door.counts` has it.
KINDS = ("garbage", "oversized", "version", "secret", "forged", "late", "slow", "flood", "full", "fault")
_READ_BYTES = 16 << 10
# All trainers of a job may come at once; the kernel keeps what is not accepted yet.
_BACKLOG = 1024
# How often sessions that the service ended by itself are looked for.
_TICK_S = 0.5


@dataclass(frozen=True)
class Limits:
    """What the door bears."""

    #: Seconds from the connection to the proof.
    handshake_s: float = 5.0
    #: Seconds for the rest of a frame that began, and for an answer to be taken.
    frame_s: float = 5.0
    #: Peers that have not proved anything yet.
    strangers: int = 128
    #: Sessions: trainers and samplers of a job on all hosts.
    sessions: int = 4096


class _Peer:
    """One connection."""

    def __init__(self, sock: socket.socket, name: str, reception: Reception, due: float) -> None:
        self.sock, self.name, self.reception = sock, name, reception
        self.reader = FrameReader()
        self.outbox = bytearray()
        self.due: float | None = due  # when it is dropped unless something happens before
        self.events = selectors.EVENT_READ


class Door:
    """Admits peers to a `Service`. Serves from construction until `close`; its methods are thread-safe."""

    def __init__(
        self, service: Service, secret: bytes, address: str, port: int = 0, limits: Limits | None = None
    ) -> None:
        """Listen at ``address`` (one of this machine's, never all of them) and ``port`` (0: any free one).

        Raises ConfigError for an address that would listen everywhere, TransportError where it cannot be had.
        """
        self._service, self._secret, self._limits = service, secret, limits or Limits()
        self._tally = Tally()
        self._listener = _listen(address, port)
        self._peers: dict[socket.socket, _Peer] = {}
        self._bell, self._rope = socket.socketpair()  # `close` rings
        self._bell.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._bell, selectors.EVENT_READ)
        host, bound = self._listener.getsockname()[:2]
        #: Where it listens.
        self.address: tuple[str, int] = (str(host), int(bound))
        self._deaf_until: float | None = None  # descriptors ran out: nobody is accepted until then
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="rudder-door", daemon=True)
        self._thread.start()

    def counts(self) -> dict[str, int]:
        """Peers dropped, by kind (see KINDS); kinds that never happened are absent."""
        return self._tally.counts()

    def close(self) -> None:
        """Drop every peer and stop listening. Idempotent."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._rope.close()
        self._thread.join()

    def _run(self) -> None:
        try:
            while True:
                for key, events in self._selector.select(self._patience()):
                    if key.fileobj is self._bell:
                        return
                    if key.fileobj is self._listener:
                        self._accept()
                    else:
                        self._serve(key.data, events)
                self._drop_late()
                self._drop_ended()
                if self._deaf_until is not None and time.monotonic() >= self._deaf_until:
                    self._deaf_until = None
                    self._selector.register(self._listener, selectors.EVENT_READ)
        finally:
            for peer in list(self._peers.values()):
                self._drop(peer)
            self._listener.close()
            self._bell.close()
            self._selector.close()

    def _patience(self) -> float:
        dues = [peer.due for peer in self._peers.values() if peer.due is not None]
        return max(0.0, min([_TICK_S, *(due - time.monotonic() for due in dues)]))

    def _accept(self) -> None:
        try:
            sock, address = self._listener.accept()
        except (BlockingIOError, ConnectionError):  # it went away again
            return
        except OSError as error:  # descriptors ran out: room is made, and the next waits a moment
            self._evict("flood", f"no connection can be accepted: {error.strerror}")
            self._selector.unregister(self._listener)
            self._deaf_until = time.monotonic() + _TICK_S
            return
        strangers = [peer for peer in self._peers.values() if not peer.reception.proved]
        if len(strangers) >= self._limits.strangers:
            self._evict("flood", f"{len(strangers)} connections that had proved nothing")
        sock.setblocking(False)
        with contextlib.suppress(OSError):  # it is gone already: reading will tell
            keep_alive(sock)
        reception = Reception(self._service, self._secret, address[0])
        due = time.monotonic() + self._limits.handshake_s
        peer = _Peer(sock, f"{address[0]}:{address[1]}", reception, due)
        self._peers[sock] = peer
        self._selector.register(sock, peer.events, peer)

    def _evict(self, kind: str, why: str) -> None:
        # In the order of their coming: a peer of the job is through within milliseconds.
        oldest = next((peer for peer in self._peers.values() if not peer.reception.proved), None)
        if oldest is not None:
            self._drop(oldest, kind, why)

    def _serve(self, peer: _Peer, events: int) -> None:
        if peer.sock not in self._peers:  # dropped earlier in this round
            return
        try:
            if events & selectors.EVENT_WRITE:
                self._send(peer)
            # Nothing more is taken from a peer that does not take its answers.
            if events & selectors.EVENT_READ and not peer.outbox:
                data = peer.sock.recv(_READ_BYTES)
                if not data:
                    self._drop(peer)
                    return
                peer.reader.feed(data)
            self._answer(peer)
        except BlockingIOError:
            return
        except WireError as error:
            self._refuse(peer, error)
            return
        except OSError:  # reset, timed out by keepalive
            self._drop(peer)
            return
        except Exception as error:  # a fault of ours costs this peer its session, and no other peer anything
            self._drop(peer, "fault", f"{type(error).__name__}: {error}")
            return
        self._watch(peer)

    def _answer(self, peer: _Peer) -> None:
        while not peer.outbox:
            peer.reader.limit = peer.reception.limit
            frame = peer.reader.next()
            if frame is None:
                return
            proved = peer.reception.proved
            answer = peer.reception.take(frame)
            if peer.reception.proved and not proved and self._members() > self._limits.sessions:
                raise WireError("full", f"{self._limits.sessions} sessions are open")
            peer.outbox += framed(answer)
            self._send(peer)

    def _members(self) -> int:
        return sum(peer.reception.proved for peer in self._peers.values())

    def _send(self, peer: _Peer) -> None:
        with contextlib.suppress(BlockingIOError):
            sent = peer.sock.send(peer.outbox)
            del peer.outbox[:sent]

    def _watch(self, peer: _Peer) -> None:
        """Set what is waited for, and how long."""
        events = selectors.EVENT_WRITE if peer.outbox else selectors.EVENT_READ
        if events != peer.events:
            peer.events = events
            self._selector.modify(peer.sock, events, peer)
        if not peer.reception.proved:
            return  # its time runs from the beginning, whatever it sends
        if not (peer.outbox or peer.reader.amid):
            peer.due = None if peer.reception.session is not None else self._soon(peer)
        else:
            peer.due = self._soon(peer)

    def _soon(self, peer: _Peer) -> float:
        return peer.due if peer.due is not None else time.monotonic() + self._limits.frame_s

    def _drop_late(self) -> None:
        now = time.monotonic()
        for peer in [peer for peer in self._peers.values() if peer.due is not None and peer.due <= now]:
            if peer.outbox:
                self._drop(peer, "slow", f"it took no answer for {self._limits.frame_s:g} s")
            else:
                self._drop(peer, "late", "it did not go on in time")

    def _drop_ended(self) -> None:
        ended = set(self._service.ended())
        if ended:
            for peer in [peer for peer in self._peers.values() if peer.reception.session in ended]:
                self._drop(peer)

    def _refuse(self, peer: _Peer, error: WireError) -> None:
        self._tally.add(error.kind, peer.name, str(error))
        told = handshake.refusal(error.kind)
        if told is not None:
            with contextlib.suppress(OSError):
                peer.sock.send(framed(told))
        self._drop(peer)

    def _drop(self, peer: _Peer, kind: str | None = None, why: str = "") -> None:
        if kind is not None:
            self._tally.add(kind, peer.name, why)
        del self._peers[peer.sock]
        self._selector.unregister(peer.sock)
        if peer.reception.session is not None:
            self._service.leave(peer.reception.session)
        peer.sock.close()


def keep_alive(sock: socket.socket) -> None:
    """Have the kernel find out within half a minute that the other machine is gone."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)


def _listen(address: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, place = socket.getaddrinfo(
            address or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ConfigError(f"no address {address!r}: {error.strerror}") from error
    if ipaddress.ip_address(str(place[0]).partition("%")[0]).is_unspecified:
        raise ConfigError(f"{address!r} would listen on every network: give the address of the job's own")
    listener = socket.socket(family, kind)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise TransportError(f"cannot listen at {address} port {port}: {error.strerror}") from error
    return listener
