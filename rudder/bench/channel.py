"""A conversation of JSON objects between the benchmark's client and its peers, sealed with the secret.

The greetings, proofs and seals are those of the feature servers' door (rudder.serve.handshake).
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from typing import Any

from rudder import errors
from rudder.errors import TransportError
from rudder.serve import handshake
from rudder.serve.frames import MEMBER_BYTES, STRANGER_BYTES, FrameReader, WireError, framed
from rudder.serve.handshake import CLIENT, SERVER, Seal

#: For the way in. A peer of the job is through within milliseconds.
PATIENCE_S = 5.0
# The longest answer: a peer makes a table, or starts DistDGL's server.
_ANSWER_S = 120.0
_READ_BYTES = 64 << 10


class Channel:
    """One end of a conversation whose two sides have proved to know the secret. `ask` is thread-safe."""

    def __init__(self, sock: socket.socket, reader: FrameReader, ours: Seal, theirs: Seal, who: str) -> None:
        """Made by `enter` and `admit`."""
        self._sock, self._reader, self._ours, self._theirs, self._who = sock, reader, ours, theirs, who
        self._lock = threading.Lock()
        #: This end's address, as the other one can reach it.
        self.own_address: str = sock.getsockname()[0]

    def ask(self, do: str, /, **values: Any) -> dict[str, Any]:
        """Have the peer do something; what it answers. Raises what it raised, or TransportError."""
        with self._lock:
            self.send({"do": do, **values})
            answer = self.receive()
        if answer is None:
            raise TransportError(f"{self._who} closed the connection")
        if "error" in answer:
            kind = getattr(errors, str(answer.get("kind")), TransportError)
            raise kind(f"{self._who}: {answer['error']}")
        return answer

    def send(self, value: dict[str, Any]) -> None:
        """Send an object. Raises TransportError."""
        try:
            self._sock.sendall(framed(self._ours.close(json.dumps(value).encode())))
        except OSError as error:
            raise TransportError(f"{self._who} cannot be told anything: {error}") from error

    def receive(self) -> dict[str, Any] | None:
        """The next object; None where the other side has closed. Raises TransportError."""
        try:
            frame = _next_frame(self._sock, self._reader)
            if frame is None:
                return None
            value = json.loads(self._theirs.open(frame))
        except (OSError, WireError, ValueError) as error:
            raise TransportError(f"{self._who} does not answer: {error}") from error
        if not isinstance(value, dict):
            raise TransportError(f"{self._who} sent {type(value).__name__}, not an object")
        return value

    def wait_for_requests(self) -> None:
        """From now on `receive` waits as long as it takes."""
        self._sock.settimeout(None)

    def close(self) -> None:
        """End the conversation. Idempotent; a `receive` that waits returns."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()


def enter(host: str, port: int, secret: bytes) -> Channel:
    """Connect to a peer. Raises TransportError, saying why it cannot be."""
    who = f"the benchmark's server at {host}:{port}"
    try:
        sock = socket.create_connection((host, port), PATIENCE_S)
    except OSError as error:
        raise TransportError(
            f"{who} cannot be reached ({error}): run `rudder bench fetch --server` there, check the address"
        ) from error
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = FrameReader(STRANGER_BYTES)
        mine = handshake.greeting(CLIENT)
        theirs = _exchange(sock, reader, mine)
        handshake.check_greeting(theirs, SERVER)
        greetings = mine + theirs
        answer = _exchange(sock, reader, handshake.proof(secret, CLIENT, greetings))
        handshake.check_proof(answer, secret, SERVER, greetings)
    except (OSError, WireError) as error:
        sock.close()
        raise TransportError(f"{who} refuses: {error}") from error
    sock.settimeout(_ANSWER_S)
    reader.limit = MEMBER_BYTES
    return Channel(sock, reader, Seal(secret, CLIENT, greetings), Seal(secret, SERVER, greetings), who)


def admit(sock: socket.socket, secret: bytes) -> Channel:
    """The peer's side of `enter`. Raises TransportError for whoever does not know the secret."""
    sock.settimeout(PATIENCE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    reader = FrameReader(STRANGER_BYTES)
    try:
        theirs = _need(sock, reader)
        handshake.check_greeting(theirs, CLIENT)
        mine = handshake.greeting(SERVER)
        sock.sendall(framed(mine))
        greetings = theirs + mine
        handshake.check_proof(_need(sock, reader), secret, CLIENT, greetings)
        sock.sendall(framed(handshake.proof(secret, SERVER, greetings)))
    except WireError as error:
        told = handshake.refusal(error.kind)
        if told is not None:
            with contextlib.suppress(OSError):
                sock.sendall(framed(told))
        raise TransportError(f"refused a client: {error}") from error
    except OSError as error:
        raise TransportError(f"refused a client: {error}") from error
    reader.limit = MEMBER_BYTES
    return Channel(
        sock,
        reader,
        Seal(secret, SERVER, greetings),
        Seal(secret, CLIENT, greetings),
        "the benchmark's client",
    )


def _exchange(sock: socket.socket, reader: FrameReader, body: bytes) -> bytes:
    sock.sendall(framed(body))
    frame = _need(sock, reader)
    refused = handshake.refusal_in(frame)
    if refused is not None:
        raise WireError("refused", refused)
    return frame


def _need(sock: socket.socket, reader: FrameReader) -> bytes:
    frame = _next_frame(sock, reader)
    if frame is None:
        raise WireError("garbage", "it closed the connection")
    return frame


def _next_frame(sock: socket.socket, reader: FrameReader) -> bytes | None:
    while (frame := reader.next()) is None:
        data = sock.recv(_READ_BYTES)
        if not data:
            return None
        reader.feed(data)
    return frame
