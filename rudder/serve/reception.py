"""The server's half of one conversation at the door, without sockets: frames in, frames out."""

from __future__ import annotations

from typing import Protocol

from rudder.errors import RudderError
from rudder.serve import handshake
from rudder.serve.frames import MEMBER_BYTES, STRANGER_BYTES, WireError
from rudder.serve.handshake import CLIENT, SERVER, Seal
from rudder.serve.messages import Admitted, Denied, Enter, Message, Open, Opened, decode, encode

#: Tables that one session may open: more than any script attaches, few enough to bound what is mapped.
TABLES_OF_A_SESSION = 1024


class Service(Protocol):
    """What lies behind the door. Its RudderErrors are told to the peer, who is of the job."""

    def enter(self, partition: int, address: bytes, hosts: tuple[str, ...]) -> Admitted:
        """Open a session for the client's worker at this address, which connects from these hosts."""

    def open(self, session: int, table: int, name: str, rows: int, row_bytes: int) -> Opened:
        """Let the session read that table."""

    def leave(self, session: int) -> None:
        """The session is over."""

    def ended(self) -> list[int]:
        """Sessions that the service ended by itself since the last call."""


class Reception:
    """A conversation: greeted -> proved -> in a session. Not thread-safe."""

    def __init__(self, service: Service, secret: bytes, host: str) -> None:
        """A peer that has said nothing yet. ``host``: where its connection comes from."""
        self._service, self._secret, self._host = service, secret, host
        self._greetings = b""
        self._seals: tuple[Seal, Seal] | None = None  # theirs, ours
        self._tables = 0
        #: Number of the session; None until it is open.
        self.session: int | None = None

    @property
    def proved(self) -> bool:
        """Whether the peer has shown that it has the secret."""
        return self._seals is not None

    @property
    def limit(self) -> int:
        """Longest frame that may come next."""
        return MEMBER_BYTES if self.proved else STRANGER_BYTES

    def take(self, frame: bytes) -> bytes:
        """The answer to a frame. Raises WireError where the conversation must end."""
        if self._seals is not None:
            theirs, ours = self._seals
            return ours.close(encode(self._answer(decode(theirs.open(frame)))))
        if not self._greetings:
            handshake.check_greeting(frame, CLIENT)
            own = handshake.greeting(SERVER)
            self._greetings = frame + own
            return own
        handshake.check_proof(frame, self._secret, CLIENT, self._greetings)
        own = handshake.proof(self._secret, SERVER, self._greetings)
        self._seals = (
            Seal(self._secret, CLIENT, self._greetings),
            Seal(self._secret, SERVER, self._greetings),
        )
        return own

    def _answer(self, message: Message) -> Message:
        try:
            if isinstance(message, Enter) and self.session is None:
                hosts = (*message.hosts, self._host)
                admitted = self._service.enter(message.partition, message.address, hosts)
                self.session = admitted.session
                return admitted
            if isinstance(message, Open) and self.session is not None:
                if self._tables == TABLES_OF_A_SESSION:
                    return Denied(f"a session may open {TABLES_OF_A_SESSION} tables")
                what = (message.table, message.name, message.rows, message.row_bytes)
                opened = self._service.open(self.session, *what)
                self._tables += 1
                return opened
        except RudderError as error:
            return Denied(str(error))
        raise WireError("garbage", f"{type(message).__name__} out of order")
