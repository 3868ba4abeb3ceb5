"""Recorded accesses: the file format, piece by piece; `rudder.replay.read` makes a whole trace of it.

A trace file (`*.trace`) holds what one trainer asked of one tensor, as the log of calls that the core's
ledger (window and policy) got. The ledger's decisions depend on nothing else, so replaying the log gives
exactly the same rows moved.

Format, version 1, little-endian. The file starts with the 8 bytes ``RUDTRACE`` and is followed by frames,
each::

    kind     1 byte    length of payload   uint32    CRC-32 of kind and payload   uint32    payload

====  ===========  =========================================================================================
kind  name         payload
====  ===========  =========================================================================================
H     header       JSON: `version`, the tensor's name, rank, rows, partitions and how the buffer was set up
F     foresee      uint64 minibatch, then ids: remote ids of a minibatch that entered the window
E     execute      uint64 minibatch: the trainer's turn came
R     read         uint64 0, then ids read without having been announced
I     invalidate   uint64 rows fetched again for minibatches on their way, then ids whose rows were written
                   to
D     drop         uint64 minibatches executed, but not used: they and the window were forgotten
C     capacity     uint64 rows
Q     depth        uint64 minibatches
Y     replace      uint64 0 or 1: the paper's no or yes to replacements
P     fraction     uint64 percent of the buffer that one replacement may exchange (100 where none came)
U     unstage      uint64 minibatch: rows fetched for it, or before, serve no later one any more
O     observe      uint64 minibatches that static-frequency counts in all
V     prior        zlib of one float32 per row of the table: its worth
B     halo         ids of the halo, where they are known
T     times        uint64 minibatch, three float32: seconds of sampling, waiting for rows, training
====  ===========  =========================================================================================

Ids keep their order, which some policies depend on. They are stored as one byte, the bytes per id; uint32,
their count; then all lowest bytes, all second bytes and so on, each as uint32 length and zlib data, or as it
is where the length equals the count. The high bytes repeat, the lowest are noise: 2.2 to 2.5 bytes an access
(`benchmarks/record_bench.py`).

A process that dies leaves a file that is readable up to its last whole frame.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rudder.errors import FormatError
from rudder.source import Ids

MAGIC = b"RUDTRACE"
VERSION = 1
SUFFIX = ".trace"

CALLS = {
    "foresee": b"F",
    "execute": b"E",
    "read": b"R",
    "invalidate": b"I",
    "drop": b"D",
    "capacity": b"C",
    "depth": b"Q",
    "replace": b"Y",
    "fraction": b"P",
    "unstage": b"U",
    "observe": b"O",
}
_NAMES = {kind: name for name, kind in CALLS.items()}
_FRAME = struct.Struct("<cII")
_NUMBER = struct.Struct("<Q")
_TIMES = struct.Struct("<Qfff")
_IDS = struct.Struct("<BI")
_LENGTH = struct.Struct("<I")
# Level 6 saves another 2% of the bytes for twice the time.
_LEVEL = 1
# Bytes of ids in no order are skewed but do not repeat: Huffman codes alone are smaller then, and soon made.
_STRATEGIES = (zlib.Z_HUFFMAN_ONLY, zlib.Z_DEFAULT_STRATEGY)
# Bytes of a plane that show which of them is better.
_TELLING = 1024
_NO_IDS: Ids = np.empty(0, dtype=np.int64)


#: Worth of every row of a table.
Worth = NDArray[np.float32]


class Call(NamedTuple):
    """One call of the ledger (see the table above). ``prior`` comes with "prior" alone."""

    name: str
    number: int
    ids: Ids
    prior: Worth | None = None


class Halo(NamedTuple):
    """Rows of the halo, in no order."""

    ids: Ids


class Times(NamedTuple):
    """Seconds of one minibatch."""

    minibatch: int
    sampling: float
    waiting: float
    training: float


class TraceFile:
    """A trace file, read frame by frame as often as it is iterated over: `Call`, `Halo`, `Times`, in order.

    ``header``: its JSON object. ``truncated``: the last pass met the file's end, or damage, inside a frame;
    what came before is whole. Never more than one frame is held. Not thread-safe.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the header. Raises FormatError, OSError."""
        self.path = Path(path)
        self.truncated = False
        with self.path.open("rb") as file:
            kind, payload = next(self._frames(file), (b"", b""))
        if not kind:
            raise FormatError(f"{path} ends before its header")
        if kind != b"H":
            raise FormatError(f"{path} does not start with a header")
        try:
            header = json.loads(payload)
        except ValueError as error:
            raise FormatError(f"{path}: the header is not JSON: {error}") from error
        if not isinstance(header, dict):
            raise FormatError(f"{path}: the header is not a JSON object")
        if header.get("version") != VERSION:
            raise FormatError(f"{path} has version {header.get('version')}; this Rudder reads {VERSION}")
        self.header: dict[str, Any] = header

    def __iter__(self) -> Iterator[Call | Halo | Times]:
        """Every frame after the header. Raises FormatError for one that holds nonsense, OSError."""
        with self.path.open("rb") as file:
            for number, (kind, payload) in enumerate(self._frames(file)):
                try:
                    entry = _entry(kind, payload) if number > 0 else None
                except (struct.error, zlib.error, ValueError) as error:
                    raise FormatError(
                        f"{self.path}: frame {number} ({kind.decode('latin-1')}) cannot be read: {error}"
                    ) from error
                if entry is not None:
                    yield entry

    def _frames(self, file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
        left = os.fstat(file.fileno()).st_size - len(MAGIC)
        if file.read(len(MAGIC)) != MAGIC:
            raise FormatError(f"{self.path} is not a Rudder trace: it does not start with {MAGIC.decode()}")
        self.truncated = True
        while left >= _FRAME.size:
            kind, length, crc = _FRAME.unpack(file.read(_FRAME.size))
            left -= _FRAME.size + length
            # A damaged length must not become an allocation.
            payload = file.read(length) if left >= 0 else b""
            if len(payload) < length or zlib.crc32(payload, zlib.crc32(kind)) != crc:
                return
            yield kind, payload
        self.truncated = left > 0


def frame(kind: bytes, payload: bytes) -> bytes:
    """One frame of the file."""
    return _FRAME.pack(kind, len(payload), zlib.crc32(payload, zlib.crc32(kind))) + payload


def call_frame(name: str, number: int, ids: Ids) -> bytes:
    """The frame of a ledger's call."""
    payload = _NUMBER.pack(number)
    return frame(CALLS[name], payload + encode_ids(ids) if len(ids) else payload)


def header_frame(header: dict[str, Any]) -> bytes:
    """The first frame."""
    return frame(b"H", json.dumps({"version": VERSION, **header}).encode())


def prior_frame(worth: Worth) -> bytes:
    """The frame of a prior that came into force: worth of every row."""
    return frame(b"V", zlib.compress(worth.astype("<f4").tobytes(), _LEVEL))


def halo_frame(ids: Ids) -> bytes:
    """The frame of the halo's ids."""
    return frame(b"B", encode_ids(ids) if len(ids) else b"")


def times_frame(minibatch: int, sampling: float, waiting: float, training: float) -> bytes:
    """The frame of a minibatch's times, in seconds."""
    return frame(b"T", _TIMES.pack(minibatch, sampling, waiting, training))


def encode_ids(ids: Ids) -> bytes:
    """Ids (>= 0) in their order, compressed."""
    width = max(1, (int(ids.max()).bit_length() + 7) // 8)
    planes = np.ascontiguousarray(ids.astype("<i8").view(np.uint8).reshape(-1, 8)[:, :width].T)
    parts = [_IDS.pack(width, len(ids))]
    for plane in planes:
        data = min(plane.tobytes(), _compressed(plane), key=len)
        parts += [_LENGTH.pack(len(data)), data]
    return b"".join(parts)


def decode_ids(data: bytes) -> Ids:
    """What `encode_ids` made. Raises FormatError."""
    if not data:
        return np.empty(0, dtype=np.int64)
    try:
        width, count = _IDS.unpack_from(data)
        wide = np.zeros((count, 8), dtype=np.uint8)
        at = _IDS.size
        for byte in range(width):
            length = _LENGTH.unpack_from(data, at)[0]
            at += _LENGTH.size
            plane = data[at : at + length]
            at += length
            wide[:, byte] = np.frombuffer(
                plane if length == count else zlib.decompress(plane), dtype=np.uint8
            )
        if at != len(data):
            raise ValueError(f"{len(data) - at} bytes too many")
    except (struct.error, zlib.error, ValueError, IndexError, MemoryError) as error:
        raise FormatError(f"ids of a trace cannot be decoded: {error}") from error
    return wide.reshape(-1).view("<i8").astype(np.int64)


def _compressed(plane: NDArray[np.uint8]) -> bytes:
    # Both strategies on the whole plane would cost the recorder twice the time; a piece of it tells.
    piece = plane[: max(_TELLING, len(plane) // 16)]
    best = min(_STRATEGIES, key=lambda strategy: len(_deflate(piece, strategy)))
    return _deflate(plane, best)


def _deflate(plane: NDArray[np.uint8], strategy: int) -> bytes:
    deflate = zlib.compressobj(_LEVEL, strategy=strategy)
    return deflate.compress(plane.tobytes()) + deflate.flush()


def _entry(kind: bytes, payload: bytes) -> Call | Halo | Times | None:
    """What a frame says; None for a kind that is unknown."""
    if kind == b"V":
        worth = np.frombuffer(zlib.decompress(payload), dtype="<f4").astype(np.float32)
        return Call("prior", 0, _NO_IDS, worth)
    if kind == b"B":
        return Halo(decode_ids(payload))
    if kind == b"T":
        return Times(*_TIMES.unpack(payload))
    if kind in _NAMES:
        (number,) = _NUMBER.unpack_from(payload)
        return Call(_NAMES[kind], number, decode_ids(payload[_NUMBER.size :]))
    return None
