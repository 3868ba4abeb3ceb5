"""Recorded accesses: the file format, its writer's pieces and its reader.

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
W     prior        zlib of one byte per row of the table: the level that `Prior` quantised its worth to
V     prior        zlib of one float32 per row: its worth itself, for policies that rank by it
T     times        uint64 minibatch, three float32: seconds of sampling, waiting for rows, training
====  ===========  =========================================================================================

Ids keep their order, which some policies depend on. They are stored as one byte, the bytes per id; uint32,
their count; then all lowest bytes, all second bytes and so on, each as uint32 length and zlib data, or as it
is where the length equals the count. The high bytes repeat, the lowest are noise: 2.2 to 2.4 bytes an access.

A process that dies leaves a file that is readable up to its last whole frame.
"""

from __future__ import annotations

import json
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
}
_NAMES = {kind: name for name, kind in CALLS.items()}
_FRAME = struct.Struct("<cII")
_NUMBER = struct.Struct("<Q")
_TIMES = struct.Struct("<Qfff")
_IDS = struct.Struct("<BI")
_LENGTH = struct.Struct("<I")
# Level 6 saves another 2% of the bytes for twice the time.
_LEVEL = 1
_NO_IDS: Ids = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Call:
    """One call of the ledger: its name (see the table above), its number and its ids."""

    name: str
    number: int
    ids: Ids


@dataclass
class Trace:
    """A trace in memory: minibatch t, in the order of execution, asked for ``ids[offsets[t]:offsets[t+1]]``.

    ``calls`` (None in the .npz form) are all calls of the ledger; a "prior" among them stands in ``priors``,
    in order: levels (uint8) or worth (float32) of every row. ``seconds`` [T, 3]: sampling, waiting for rows,
    training, NaN where they were not recorded. ``nodes``, ``vip``, ``degree`` and ``num_halo`` are those of
    the .npz form.
    """

    header: dict[str, Any]
    ids: Ids
    offsets: Ids
    seconds: NDArray[np.float32]
    calls: list[Call] | None = None
    priors: list[NDArray[np.uint8] | NDArray[np.float32]] = field(default_factory=list)
    truncated: bool = False
    nodes: Ids | None = None
    vip: NDArray[np.float32] | None = None
    degree: NDArray[np.float32] | None = None
    num_halo: int | None = None

    def __len__(self) -> int:
        """Minibatches."""
        return len(self.offsets) - 1

    def __getitem__(self, minibatch: int) -> Ids:
        """The remote ids of one minibatch."""
        return self.ids[self.offsets[minibatch] : self.offsets[minibatch + 1]]


def read(path: str | os.PathLike[str]) -> Trace:
    """Read a trace file or an .npz trace. Raises FormatError, OSError.

    A file that ends in the middle of a frame is read up to there and marked ``truncated``.
    """
    path = Path(path)
    if path.suffix == ".npz":
        return _read_npz(path)
    data = path.read_bytes()
    if not data.startswith(MAGIC):
        raise FormatError(f"{path} is not a Rudder trace: it does not start with {MAGIC.decode()}")
    return _assemble(path, data)


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


def prior_frame(prior: NDArray[np.uint8] | NDArray[np.float32]) -> bytes:
    """The frame of a prior that came into force: levels (uint8) or worth (float32) of every row."""
    if prior.dtype == np.uint8:
        return frame(b"W", zlib.compress(prior.tobytes(), _LEVEL))
    return frame(b"V", zlib.compress(prior.astype("<f4").tobytes(), _LEVEL))


def times_frame(minibatch: int, sampling: float, waiting: float, training: float) -> bytes:
    """The frame of a minibatch's times, in seconds."""
    return frame(b"T", _TIMES.pack(minibatch, sampling, waiting, training))


def encode_ids(ids: Ids) -> bytes:
    """Ids (>= 0) in their order, compressed."""
    width = max(1, (int(ids.max()).bit_length() + 7) // 8)
    planes = np.ascontiguousarray(ids.astype("<i8").view(np.uint8).reshape(-1, 8)[:, :width].T)
    parts = [_IDS.pack(width, len(ids))]
    for plane in planes:
        data = zlib.compress(plane.tobytes(), _LEVEL)
        if len(data) >= len(ids):
            data = plane.tobytes()
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


def _frames(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(MAGIC)
    while at + _FRAME.size <= len(data):
        kind, length, crc = _FRAME.unpack_from(data, at)
        payload = data[at + _FRAME.size : at + _FRAME.size + length]
        if len(payload) < length or zlib.crc32(payload, zlib.crc32(kind)) != crc:
            return
        yield kind, payload
        at += _FRAME.size + length
    return


def _assemble(path: Path, data: bytes) -> Trace:
    header: dict[str, Any] | None = None
    calls: list[Call] = []
    priors: list[NDArray[np.uint8] | NDArray[np.float32]] = []
    times: dict[int, tuple[float, float, float]] = {}
    read_bytes = len(MAGIC)
    for kind, payload in _frames(data):
        read_bytes += _FRAME.size + len(payload)
        if header is None:
            header = _header(path, kind, payload)
        elif kind == b"W":
            priors.append(np.frombuffer(zlib.decompress(payload), dtype=np.uint8))
            calls.append(Call("prior", 0, _NO_IDS))
        elif kind == b"V":
            priors.append(np.frombuffer(zlib.decompress(payload), dtype="<f4").astype(np.float32))
            calls.append(Call("prior", 0, _NO_IDS))
        elif kind == b"T":
            minibatch, *seconds = _TIMES.unpack(payload)
            times[minibatch] = (seconds[0], seconds[1], seconds[2])
        elif kind in _NAMES:
            number = _NUMBER.unpack_from(payload)[0]
            calls.append(Call(_NAMES[kind], number, decode_ids(payload[_NUMBER.size :])))
    if header is None:
        raise FormatError(f"{path} ends before its header")
    return _trace(header, calls, priors, times, truncated=read_bytes < len(data))


def _header(path: Path, kind: bytes, payload: bytes) -> dict[str, Any]:
    if kind != b"H":
        raise FormatError(f"{path} does not start with a header")
    header: dict[str, Any] = json.loads(payload)
    if header.get("version") != VERSION:
        raise FormatError(f"{path} has version {header.get('version')}; this Rudder reads {VERSION}")
    return header


def _trace(
    header: dict[str, Any],
    calls: list[Call],
    priors: list[NDArray[np.uint8] | NDArray[np.float32]],
    times: dict[int, tuple[float, float, float]],
    *,
    truncated: bool,
) -> Trace:
    foreseen: dict[int, Ids] = {}
    executed: list[tuple[int, Ids]] = []
    for call in calls:
        if call.name == "foresee":
            foreseen[call.number] = call.ids
        elif call.name == "execute":
            executed.append((call.number, foreseen.pop(call.number, call.ids)))
        elif call.name == "drop":
            foreseen.clear()
            del executed[len(executed) - min(call.number, len(executed)) :]
    arrays = [ids for _, ids in executed]
    unknown = (np.nan, np.nan, np.nan)
    seconds = [times.get(number, unknown) for number, _ in executed]
    return Trace(
        header=header,
        ids=np.concatenate(arrays) if arrays else np.empty(0, dtype=np.int64),
        offsets=np.cumsum([0, *(len(ids) for ids in arrays)], dtype=np.int64),
        seconds=np.array(seconds, dtype=np.float32).reshape(-1, 3),
        calls=calls,
        priors=priors,
        truncated=truncated,
    )


def _read_npz(path: Path) -> Trace:
    try:
        with np.load(path, allow_pickle=False) as archive:
            nodes = archive["nodes"].astype(np.int64)
            offsets = archive["offsets"].astype(np.int64)
            return Trace(
                header={"version": VERSION, "tensor": path.stem},
                ids=nodes[archive["ids"]],
                offsets=offsets,
                seconds=np.full((len(offsets) - 1, 3), np.nan, dtype=np.float32),
                nodes=nodes,
                vip=archive["vip"].astype(np.float32),
                degree=archive["degree"].astype(np.float32),
                num_halo=int(archive["num_halo"]),
            )
    except (KeyError, ValueError, IndexError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise FormatError(f"{path} is not a trace: {error}") from error
