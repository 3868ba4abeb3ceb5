"""Lines over a socket that never blocks: pieces, garbage, a peer that does not read, a peer that is gone."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from rudder.agent.worker.channel import Channel
from rudder.agent.worker.protocol import LONGEST_LINE, Failed, Hello, to_line
from rudder.errors import FormatError


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    one, other = socket.socketpair()
    channel = Channel(one)
    yield channel, other
    channel.close()
    other.close()


def test_a_line_in_pieces_is_one_message(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    line = to_line(Hello(1, "a")) + to_line(Hello(2, "b"))
    for byte in line[:-1]:
        other.send(bytes([byte]))
        found = channel.receive()
        assert found in ([], [Hello(1, "a")])
    other.send(line[-1:])
    assert channel.receive() == [Hello(2, "b")]
    assert channel.receive() == []


def test_garbage_between_messages_is_told_and_skipped(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    other.send(to_line(Hello(1)) + b"what?\n" + to_line(Hello(2)))
    first, garbage, last = channel.receive()
    assert (first, last) == (Hello(1), Hello(2))
    assert isinstance(garbage, FormatError)


def test_the_last_words_come_before_the_end(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    other.send(to_line(Hello(1)))
    other.close()
    assert channel.receive() == [Hello(1)]
    with pytest.raises(ConnectionError):
        channel.receive()


def test_a_line_without_end_ends_the_connection(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    for _ in range(LONGEST_LINE // 4096):
        other.send(b"x" * 4096)
        assert channel.receive() == []
    other.send(b"x")
    with pytest.raises(ConnectionError, match="line"):
        channel.receive()


def test_a_peer_that_does_not_read_is_told_from_one_that_does(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    message = Failed(0, "x" * 1000)
    sent = 0
    while channel.send(message):
        sent += 1
    assert channel.waiting
    other.setblocking(False)
    got = b""
    while channel.waiting or len(got) < sent * len(to_line(message)):
        got += other.recv(1 << 16)
        channel.flush()
    assert got == to_line(message) * sent  # what was taken came whole, what was not came not at all
    assert channel.send(message)


def test_writing_to_a_peer_that_is_gone_is_an_error(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    other.close()
    with pytest.raises(ConnectionError):
        channel.send(Hello(1))
