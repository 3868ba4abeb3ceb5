"""Who is at the door: greetings, proofs of the job's secret, and the seal of every later frame.

    client: greeting (version, nonce)            server: greeting (version, nonce)
    client: proof                                server: proof
    then sealed frames, each side with a key and a counter of its own

A proof is an HMAC over both greetings and the role, so that it fits one connection and one side only. The
secret never travels, and whoever repeats or relays frames cannot seal one of his own. Nothing is encrypted.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct

from rudder.serve.frames import WireError

#: Of the door and of what is said behind it. Peers of another version are refused.
VERSION = 3
CLIENT, SERVER = 1, 2
_MAGIC = b"RUDR"
_GREETING = struct.Struct("!4sHB32s")  # magic, version, role, nonce
_COUNTER = struct.Struct("!Q")
NONCE_BYTES = 32
TAG_BYTES = 32

#: Refusals that are told before anything is proved, by code.
REFUSALS = {
    1: "it speaks another version of the protocol: use the same rudder on every host",
    2: "the secret is not that of its job: RUDDER_SECRET must be the same on all hosts",
    3: "it has as many sessions as it may have",
}
_CODES = {"version": 1, "secret": 2, "full": 3}
_REFUSAL = struct.Struct("!4sB")  # magic, code


def greeting(role: int, *, version: int = VERSION, nonce: bytes | None = None) -> bytes:
    """A greeting with a fresh nonce."""
    return _GREETING.pack(_MAGIC, version, role, nonce or secrets.token_bytes(NONCE_BYTES))


def check_greeting(frame: bytes, role: int) -> None:
    """Raise WireError unless ``frame`` is a greeting of this version from a peer of this role."""
    if len(frame) != _GREETING.size:
        raise WireError("garbage", f"{len(frame)} bytes where a greeting of {_GREETING.size} was expected")
    magic, version, theirs, _ = _GREETING.unpack(frame)
    if magic != _MAGIC:
        raise WireError("garbage", "no greeting of rudder's")
    if version != VERSION:
        raise WireError("version", f"it speaks version {version}, this is version {VERSION}")
    if theirs != role:
        raise WireError("garbage", f"a greeting in role {theirs} where {role} was expected")


def refusal(kind: str) -> bytes | None:
    """The frame that tells a stranger why it is refused; None where nothing is told."""
    return _REFUSAL.pack(_MAGIC, _CODES[kind]) if kind in _CODES else None


def refusal_in(frame: bytes) -> str | None:
    """What the refusal in ``frame`` says; None where it is none."""
    if len(frame) != _REFUSAL.size:
        return None
    magic, code = _REFUSAL.unpack(frame)
    return REFUSALS.get(code, f"refusal {code}") if magic == _MAGIC else None


def proof(secret: bytes, role: int, greetings: bytes) -> bytes:
    """That the side ``role`` of this connection has the secret; ``greetings``: client's, then server's."""
    return _keyed(secret, b"proof", role, greetings)


def check_proof(frame: bytes, secret: bytes, role: int, greetings: bytes) -> None:
    """Raise WireError unless ``frame`` is the proof of that side."""
    if not hmac.compare_digest(frame, proof(secret, role, greetings)):
        raise WireError("secret", "its proof of the job's secret is wrong")


class Seal:
    """Seals the frames of one side, or opens them: a tag over a counter and the body. Not thread-safe."""

    def __init__(self, secret: bytes, role: int, greetings: bytes) -> None:
        """``role``: of the side that sends."""
        self._key = _keyed(secret, b"seal", role, greetings)
        self._count = 0

    def close(self, body: bytes) -> bytes:
        """The body with its tag."""
        return body + self._tag(body)

    def open(self, frame: bytes) -> bytes:
        """The body of a sealed frame. Raises WireError for one that is forged, repeated or out of order."""
        body, tag = frame[:-TAG_BYTES], frame[-TAG_BYTES:]
        if len(frame) <= TAG_BYTES or not hmac.compare_digest(tag, self._tag(body)):
            raise WireError("forged", "a frame without the seal that it should have")
        return body

    def _tag(self, body: bytes) -> bytes:
        tag = hmac.new(self._key, _COUNTER.pack(self._count) + body, hashlib.sha256).digest()
        self._count += 1
        return tag


def _keyed(secret: bytes, use: bytes, role: int, greetings: bytes) -> bytes:
    return hmac.new(secret, b"rudder door %s %d " % (use, role) + greetings, hashlib.sha256).digest()
