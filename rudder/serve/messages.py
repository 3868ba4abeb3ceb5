"""What is said in sealed frames, as values: a byte for the kind, fixed fields, then a rest of any length."""

from __future__ import annotations

import ipaddress
import re
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Union

from rudder.serve.frames import WireError

_ENTER, _ADMITTED, _OPEN, _OPENED, _DENIED = range(0x10, 0x15)
_FIELDS = {
    _ENTER: struct.Struct("!IB"),
    _ADMITTED: struct.Struct("!I16s3HB"),
    _OPEN: struct.Struct("!IQI"),
    _OPENED: struct.Struct("!IQH"),
    _DENIED: struct.Struct("!"),
}
#: Names of tables: DGL's are like `node~_N~features` or `edge~user:rates:item~w`. No slash, nothing that a
#: file system or a log could take for more than a name.
NAME = re.compile(r"[A-Za-z0-9_.:~+=@ -]{1,200}")
_REASON_BYTES = 1000
#: IPv4 addresses that one side's UCX uses: more than a machine has networks.
HOSTS = 64
_HOST_BYTES = 4


@dataclass(frozen=True)
class Enter:
    """A client asks for a session with the server of a partition.

    ``address`` is its worker's; ``hosts``: where that worker's connections come from ("10.0.0.1").
    """

    partition: int
    address: bytes
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Admitted:
    """The session's number and token, the address of the server's worker, and its hosts as in `Enter`.

    ``version``: of the server's UCX, "1.22.0".
    """

    session: int
    token: bytes
    address: bytes
    hosts: tuple[str, ...] = ()
    version: str = "0.0.0"

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
    """The table may be read: by requests, and by one-sided gets where there is a key for them.

    ``at``: where it lies in the server's memory; ``why_no_key``: text of at most 1000 bytes.
    """

    table: int
    at: int = 0
    key: bytes = b""
    why_no_key: str = ""

    def __repr__(self) -> str:
        """Without the key."""
        return f"Opened(table={self.table})"


@dataclass(frozen=True)
class Denied:
    """What was asked for is not given; the session goes on."""

    reason: str


Message = Union[Enter, Admitted, Open, Opened, Denied]


def encode(message: Message) -> bytes:
    """The body of a frame."""
    if isinstance(message, Enter):
        hosts = _packed(message.hosts)
        return _pack(_ENTER, (message.partition, len(message.hosts)), hosts + message.address)
    if isinstance(message, Admitted):
        numbers = (int(part) for part in message.version.split("."))
        fields = (message.session, message.token, *numbers, len(message.hosts))
        return _pack(_ADMITTED, fields, _packed(message.hosts) + message.address)
    if isinstance(message, Open):
        about = (message.table, message.rows, message.row_bytes)
        return _pack(_OPEN, about, message.name.encode("ascii"))
    if isinstance(message, Opened):
        about = (message.table, message.at, len(message.key))
        return _pack(_OPENED, about, message.key + _reason(message.why_no_key))
    return _pack(_DENIED, (), _reason(message.reason))


def decode(body: bytes) -> Message:
    """Inverse of `encode`. Raises WireError for anything else."""
    kind = body[0] if body else -1
    fields = _FIELDS.get(kind)
    if fields is None or len(body) <= fields.size:
        raise WireError("garbage", f"an unknown or truncated message of kind {kind}")
    values, rest = fields.unpack_from(body, 1), body[1 + fields.size :]
    if kind == _ENTER:
        hosts, address = _unpacked(values[1], rest)
        return Enter(values[0], address, hosts)
    if kind == _ADMITTED:
        hosts, address = _unpacked(values[5], rest)
        return Admitted(values[0], values[1], address, hosts, "{}.{}.{}".format(*values[2:5]))
    if kind == _OPEN:
        name = rest.decode("ascii", "replace")
        if NAME.fullmatch(name) is None:
            raise WireError("garbage", f"no name of a table: {name[:50]!r}")
        return Open(values[0], values[1], values[2], name)
    if kind == _OPENED:
        length = values[2]
        if len(rest) < length:
            raise WireError("garbage", f"{len(rest)} bytes where a key of {length} was expected")
        try:
            return Opened(values[0], values[1], rest[:length], rest[length:].decode("utf-8"))
        except UnicodeDecodeError as error:
            raise WireError("garbage", f"no text why there is no key: {error}") from error
    return Denied(rest.decode("utf-8", "replace"))


def ipv4(hosts: Iterable[str]) -> list[str]:
    """Those among numeric addresses that UCX's lock can tell apart, each once."""
    found = (ipaddress.ip_address(host.partition("%")[0]) for host in hosts)
    return sorted({str(host) for host in found if host.version == 4})


def _pack(kind: int, fields: tuple[object, ...], rest: bytes) -> bytes:
    return bytes([kind]) + _FIELDS[kind].pack(*fields) + rest


def _reason(text: str) -> bytes:
    """Cut between two characters."""
    return text.encode("utf-8")[:_REASON_BYTES].decode("utf-8", "ignore").encode("utf-8")


def _packed(hosts: tuple[str, ...]) -> bytes:
    if len(hosts) > HOSTS:
        raise WireError("oversized", f"{len(hosts)} hosts of one worker: {HOSTS} are told")
    return b"".join(socket.inet_aton(host) for host in hosts)


def _unpacked(count: int, rest: bytes) -> tuple[tuple[str, ...], bytes]:
    """(hosts, worker address)."""
    end = count * _HOST_BYTES
    if count > HOSTS or len(rest) < end:
        raise WireError("garbage", f"{count} hosts, and {len(rest)} bytes for them and an address")
    hosts = [socket.inet_ntoa(rest[at : at + _HOST_BYTES]) for at in range(0, end, _HOST_BYTES)]
    return tuple(hosts), rest[end:]
