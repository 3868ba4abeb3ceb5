"""Frames and messages: what is written is read back, and nothing else is."""

from __future__ import annotations

import contextlib
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rudder.serve.frames import FrameReader, WireError, framed
from rudder.serve.messages import Admitted, Denied, Enter, Open, Opened, decode, encode, ipv4

EXAMPLES = int(os.environ.get("RUDDER_FUZZ_EXAMPLES", "300"))
HOST_LISTS = st.lists(st.ip_addresses(v=4).map(str), max_size=64).map(tuple)
NUMBER = st.integers(0, 2**32 - 1)
VERSIONS = st.tuples(*[st.integers(0, 2**16 - 1)] * 3).map("{0[0]}.{0[1]}.{0[2]}".format)
MESSAGES = st.one_of(
    st.builds(Enter, NUMBER, st.binary(min_size=1, max_size=2000), HOST_LISTS),
    st.builds(
        Admitted, NUMBER, st.binary(min_size=16, max_size=16), st.binary(max_size=2000), HOST_LISTS, VERSIONS
    ),
    st.builds(
        Open,
        NUMBER,
        st.integers(0, 2**64 - 1),
        NUMBER,
        st.from_regex(r"[\w.:~]{1,200}", fullmatch=True).filter(str.isascii),
    ),
    st.builds(Opened, NUMBER, st.integers(0, 2**64 - 1), st.binary(max_size=500), st.text(max_size=200)),
    st.builds(Denied, st.text(min_size=1, max_size=200)),
)


@given(MESSAGES)
def test_messages_survive_the_wire(message) -> None:
    assert decode(encode(message)) == message


@settings(max_examples=EXAMPLES)
@given(st.binary(max_size=400))
def test_any_bytes_are_a_message_or_refused(body: bytes) -> None:
    with contextlib.suppress(WireError):
        message = decode(body)
        assert isinstance(message, Denied) or encode(message) == body


@settings(max_examples=EXAMPLES)
@given(st.lists(st.binary(min_size=1, max_size=100), max_size=8), st.data())
def test_frames_survive_any_cut(bodies: list[bytes], data) -> None:
    stream = b"".join(framed(body) for body in bodies)
    reader, got = FrameReader(), []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        reader.feed(stream[:cut])
        stream = stream[cut:]
        while (body := reader.next()) is not None:
            got.append(body)
    assert got == bodies
    assert not reader.amid


def test_hosts() -> None:
    assert ipv4(["10.0.0.2", "::1", "fe80::1%eth0", "10.0.0.1", "10.0.0.2"]) == ["10.0.0.1", "10.0.0.2"]
    with pytest.raises(WireError, match="65 hosts"):
        encode(Enter(1, b"a", ("10.0.0.1",) * 65))


def test_bounds() -> None:
    reader = FrameReader(limit=10)
    reader.feed(framed(bytes(10)))
    assert reader.next() == bytes(10)
    reader.feed(framed(bytes(11)))
    with pytest.raises(WireError, match="at most 10"):
        reader.next()
    with pytest.raises(WireError):
        framed(b"")
    with pytest.raises(WireError):
        framed(bytes(65537))


def test_a_token_never_shows() -> None:
    assert "secret-token" not in repr(Admitted(1, b"secret-token....", b""))
    assert "secret-key" not in repr(Opened(1, 2, b"secret-key"))
