"""What is said in sealed frames, as values: a byte for the kind, fixed fields, then a rest of any length."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Union

from rudder.serve.frames import WireError

_ENTER, _ADMITTED, _OPEN, _OPENED, _DENIED = range(0x10, 0x15)
_FIELDS = {
    _ENTER: struct.Struct("!I"),
    _ADMITTED: struct.Struct("!I16s"),
    _OPEN: struct.Struct("!IQI"),
    _OPENED: struct.Struct("!I"),
    _DENIED: struct.Struct("!"),
}
#: Names of tables: DGL's are like `node~_N~features` or `edge~user:rates:item~w`. No slash, nothing that a
#: file system or a log could take for more than a name.
NAME = re.compile(r"[A-Za-z0-9_.:~+=@ -]{1,200}")
_REASON_BYTES = 1000


@dataclass(frozen=True)
class Enter:
    """A client asks for a session with the server of a partition; ``address`` is its worker's."""

    partition: int
    address: bytes


@dataclass(frozen=True)
class Admitted:
    """The session's number and token, and the address of the server's worker."""

    session: int
    token: bytes
    address: bytes

    def __repr__(self) -> str:
        """Without the token."""
        return f"Admitted(session={self.session})"


@dataclass(frozen=True)
class Open:
    """A client asks to read a table, under a number of its choice."""

    table: int
    rows: int
    row_bytes: int
    name: str


@dataclass(frozen=True)
class Opened:
    """The table may be read."""

    table: int


@dataclass(frozen=True)
class Denied:
    """What was asked for is not given; the session goes on."""

    reason: str


Message = Union[Enter, Admitted, Open, Opened, Denied]


def encode(message: Message) -> bytes:
    """The body of a frame."""
    if isinstance(message, Enter):
        return _pack(_ENTER, (message.partition,), message.address)
    if isinstance(message, Admitted):
        return _pack(_ADMITTED, (message.session, message.token), message.address)
    if isinstance(message, Open):
        fields = (message.table, message.rows, message.row_bytes)
        return _pack(_OPEN, fields, message.name.encode("ascii"))
    if isinstance(message, Opened):
        return _pack(_OPENED, (message.table,), b"")
    return _pack(_DENIED, (), message.reason.encode("utf-8")[:_REASON_BYTES])


def decode(body: bytes) -> Message:
    """Inverse of `encode`. Raises WireError for anything else."""
    kind = body[0] if body else -1
    fields = _FIELDS.get(kind)
    if fields is None or len(body) <= fields.size:
        raise WireError("garbage", f"an unknown or truncated message of kind {kind}")
    values, rest = fields.unpack_from(body, 1), body[1 + fields.size :]
    if kind == _ENTER:
        return Enter(values[0], rest)
    if kind == _ADMITTED:
        return Admitted(values[0], values[1], rest)
    if kind == _OPEN:
        name = rest.decode("ascii", "replace")
        if NAME.fullmatch(name) is None:
            raise WireError("garbage", f"no name of a table: {name[:50]!r}")
        return Open(values[0], values[1], values[2], name)
    if kind == _OPENED:
        if rest:
            raise WireError("garbage", "a message longer than its kind")
        return Opened(values[0])
    return Denied(rest.decode("utf-8", "replace"))


def _pack(kind: int, fields: tuple[object, ...], rest: bytes) -> bytes:
    return bytes([kind]) + _FIELDS[kind].pack(*fields) + rest
