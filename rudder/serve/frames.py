"""Frames on a byte stream: a length of four bytes, big-endian, then so many bytes."""

from __future__ import annotations

import struct

_LENGTH = struct.Struct("!I")
#: Longest frame of a peer that has proved nothing: a greeting and a proof are below 64 bytes.
STRANGER_BYTES = 1 << 10
#: Longest frame of an admitted peer. A worker's address is the longest; it grows with the number of network
#: devices, some hundred bytes each.
MEMBER_BYTES = 64 << 10


class WireError(Exception):
    """Bytes that do not follow the protocol. ``kind`` names the fault for counters; see `door.KINDS`."""

    def __init__(self, kind: str, message: str) -> None:
        """Keep the kind beside the message."""
        super().__init__(message)
        self.kind = kind


def framed(body: bytes) -> bytes:
    """A frame with this body, at most MEMBER_BYTES long."""
    if not 0 < len(body) <= MEMBER_BYTES:
        raise WireError("oversized", f"a frame of {len(body)} bytes is not sent: 1 to {MEMBER_BYTES} are")
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Cuts what comes in into frames. It holds no more than what was fed last and one frame of ``limit``."""

    def __init__(self, limit: int = STRANGER_BYTES) -> None:
        """``limit``: of a frame's body; may be raised later."""
        self.limit = limit
        self._held = bytearray()

    def feed(self, data: bytes) -> None:
        """Take what the stream brought."""
        self._held += data

    def next(self) -> bytes | None:
        """The body of the next frame; None until it is here. Raises WireError for a length out of bounds."""
        if len(self._held) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._held)
        if length > self.limit:
            raise WireError("oversized", f"a frame of {length} bytes, where at most {self.limit} may come")
        if length == 0:
            raise WireError("garbage", "an empty frame")
        end = _LENGTH.size + length
        if len(self._held) < end:
            return None
        body = bytes(self._held[_LENGTH.size : end])
        del self._held[:end]
        return body

    @property
    def amid(self) -> bool:
        """Whether the beginning of a frame is here and its end is not."""
        return bool(self._held)
