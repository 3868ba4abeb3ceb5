"""A socket from every rank to every other: they meet through a store, and prove to each other to belong.

The store (torch's, for one) must be private to the job: it carries the secret of the exchange, and NCCL's own
id. Nothing is encrypted, and neither is what NCCL sends.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import struct
import time
from typing import Any, Protocol

from rudder.errors import ConfigError, DeadlineError, TransportError
from rudder.serve import handshake
from rudder.serve.frames import WireError

_SECRET_BYTES = 32
_RANK = struct.Struct("!I")
# Strangers may knock, too; one of them keeps the door for no longer.
_HANDSHAKE_S = 5.0


class Store(Protocol):
    """What ranks meet through: torch.distributed's stores fit. Any rank reads what another has set."""

    def set(self, key: str, value: Any, /) -> Any:
        """Keep a text or bytes under the key."""
        ...

    def get(self, key: str, /) -> bytes:
        """What was set under the key, which this waits for."""
        ...


class Meeting:
    """The keys of one exchange in a store."""

    def __init__(self, store: Store, name: str, rank: int, ranks: int, deadline_s: float) -> None:
        """``deadline_s``: from now on, for all of it. Raises ConfigError for a rank that cannot be."""
        if not 0 <= rank < ranks:
            raise ConfigError(f"rank {rank} must be one of the {ranks} ranks, from 0")
        self.rank, self.ranks = rank, ranks
        self._store, self._prefix = store, f"rudder/nccl/{name}"
        self._until = time.monotonic() + deadline_s

    @property
    def left_s(self) -> float:
        """Seconds until the deadline, at least a little: 0 would mean "do not wait" to sockets."""
        return max(0.001, self._until - time.monotonic())

    def tell(self, what: str, value: bytes) -> None:
        """Say something to all ranks."""
        self._store.set(f"{self._prefix}/{what}/{self.rank}", value)

    def hear(self, what: str, rank: int) -> bytes:
        """What a rank has said, or will. Raises DeadlineError."""
        try:
            return bytes(self._store.get(f"{self._prefix}/{what}/{rank}"))
        except Exception as error:  # each store has errors of its own
            raise DeadlineError(
                f"rank {rank} did not come to the exchange: the store has no {what} of it ({error})", rank
            ) from error

    def secret(self) -> bytes:
        """Made by rank 0, the same on all."""
        if self.rank == 0:
            self.tell("secret", secrets.token_hex(_SECRET_BYTES).encode())
        return self.hear("secret", 0)


def connect(meeting: Meeting, address: str | None = None) -> list[int]:
    """File descriptors of the sockets to all ranks, by rank; -1 for this one. The caller closes them.

    ``address``: where other ranks reach this host; by default the way to MASTER_ADDR, else this host alone.
    Raises TransportError, DeadlineError.
    """
    secret = meeting.secret()
    sockets: dict[int, socket.socket] = {}
    address = address or _own_address()
    try:
        with socket.create_server((address, 0), backlog=meeting.ranks) as door:
            meeting.tell("door", json.dumps([address, door.getsockname()[1]]).encode())
            for rank in range(meeting.rank):
                sockets[rank] = _knock(meeting, rank, secret)
            while len(sockets) < meeting.ranks - 1:
                rank, made = _open(meeting, door, secret, set(sockets))
                if made is not None:
                    sockets[rank] = made
    except BaseException:
        for made in sockets.values():
            made.close()
        raise
    for made in sockets.values():
        made.settimeout(None)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return [sockets[rank].detach() if rank in sockets else -1 for rank in range(meeting.ranks)]


def _knock(meeting: Meeting, rank: int, secret: bytes) -> socket.socket:
    host, port = json.loads(meeting.hear("door", rank))
    try:
        made = socket.create_connection((host, port), timeout=meeting.left_s)
    except OSError as error:
        raise TransportError(
            f"rank {rank} cannot be reached at {host}:{port} ({error}): give each rank the address of its "
            "host, Exchange(..., address=...)",
            rank,
        ) from error
    try:
        ours = handshake.greeting(handshake.CLIENT) + _RANK.pack(meeting.rank)
        made.sendall(ours)
        theirs = _receive(made, len(ours) - _RANK.size)
        handshake.check_greeting(theirs, handshake.SERVER)
        greetings = ours + theirs
        handshake.check_proof(_receive(made, handshake.TAG_BYTES), secret, handshake.SERVER, greetings)
        made.sendall(handshake.proof(secret, handshake.CLIENT, greetings))
    except (OSError, WireError) as error:
        made.close()
        raise TransportError(f"rank {rank} did not let this one in: {error}", rank) from error
    return made


def _open(
    meeting: Meeting, door: socket.socket, secret: bytes, known: set[int]
) -> tuple[int, socket.socket | None]:
    """The next rank at the door, or None for a stranger. Raises DeadlineError."""
    door.settimeout(meeting.left_s)
    try:
        made, _ = door.accept()
    except OSError as error:
        missing = sorted(set(range(meeting.rank + 1, meeting.ranks)) - known)
        raise DeadlineError(f"ranks {missing} did not come to the exchange", missing[0]) from error
    try:
        made.settimeout(min(_HANDSHAKE_S, meeting.left_s))
        ours = handshake.greeting(handshake.SERVER)
        theirs = _receive(made, len(ours) + _RANK.size)
        handshake.check_greeting(theirs[: len(ours)], handshake.CLIENT)
        (rank,) = _RANK.unpack(theirs[len(ours) :])
        greetings = theirs + ours
        made.sendall(ours + handshake.proof(secret, handshake.SERVER, greetings))
        handshake.check_proof(_receive(made, handshake.TAG_BYTES), secret, handshake.CLIENT, greetings)
    except (OSError, WireError):
        made.close()
        return -1, None
    if rank in known or not meeting.rank < rank < meeting.ranks:
        made.close()
        return -1, None
    return rank, made


def _receive(made: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        piece = made.recv(size - len(got))
        if not piece:
            raise WireError("garbage", "the connection ended")
        got += piece
    return got


def _own_address() -> str:
    master = os.environ.get("MASTER_ADDR")
    if not master:
        return "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((master, 9))  # sends nothing
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
