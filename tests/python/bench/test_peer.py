"""A peer and the conversations with it."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import struct
from collections.abc import Iterator

import numpy as np
import pytest

from rudder.bench.channel import enter
from rudder.bench.cpu import cpu_seconds
from rudder.bench.far_side import FarSide
from rudder.bench.peer import Peer
from rudder.bench.rows import fill
from rudder.bench.settings import FetchSettings
from rudder.errors import ConfigError, TransportError

SECRET = b"a secret of the tests, long enough"
SETTINGS = FetchSettings(table_bytes=64 * 1000, seed=5)


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Peer]:
    monkeypatch.setenv("RUDDER_JOB", f"test-{os.getpid()}-0-0")
    made = Peer(SECRET, "127.0.0.1")
    yield made
    made.close()


def segments() -> list[str]:
    return [name for name in os.listdir("/dev/shm") if name.startswith(f"rudder.test-{os.getpid()}-0-0")]


def test_a_table_lies_in_shared_memory_as_long_as_somebody_needs_it(peer: Peer) -> None:
    far = FarSide([peer.address], SECRET)
    (table,) = far.tables(SETTINGS, 64)
    expected = fill(np.empty((1000, 64), dtype=np.uint8), 5, 1)
    assert np.fromfile(f"/dev/shm{table.segment}", dtype=np.uint8).tobytes() == expected.tobytes()
    assert far.tables(SETTINGS, 64) == [table]
    assert len(segments()) == 1
    far.drop([table])
    assert segments() == []
    far.tables(SETTINGS, 64)
    far.close()
    peer.close()
    assert segments() == []


def test_streams_bring_the_table(peer: Peer) -> None:
    far = FarSide([peer.address, peer.address], SECRET)
    tables = far.tables(SETTINGS, 64)
    stream = far.stream(tables)
    out = np.zeros((2000, 64), dtype=np.uint8)
    assert stream.choose_chunk(out) > 0
    out[:] = 0
    assert stream.receive(out, out.nbytes) > 0
    for share, number in ((out[:1000], 1), (out[1000:], 2)):
        assert np.array_equal(share, fill(np.empty((1000, 64), dtype=np.uint8), 5, number))
    stream.close()
    far.close()


def test_a_stream_needs_its_token(peer: Peer) -> None:
    far = FarSide([peer.address], SECRET)
    (table,) = far.tables(SETTINGS, 64)
    port = far.ask(1, "stream", name=table.name)["port"]
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(bytes(32))  # exactly a token, so that closing does not reset
        assert sock.recv(1) == b""
    far.close()


def test_a_stream_of_empty_writes_ends(peer: Peer) -> None:
    far = FarSide([peer.address], SECRET)
    (table,) = far.tables(SETTINGS, 64)
    answer = far.ask(1, "stream", name=table.name)
    with socket.create_connection(("127.0.0.1", answer["port"])) as sock:
        sock.sendall(bytes.fromhex(answer["token"]) + struct.pack("!QQ", 10, 0))
        assert sock.recv(1) == b""
    far.close()


def test_what_the_next_client_asks_for_is_not_forgotten_with_the_last_ones(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: queue.SimpleQueue[bool] = queue.SimpleQueue()
    forget = peer._forget

    def watched() -> None:
        held.put(peer._lock.locked())  # nobody is answered meanwhile
        forget()

    monkeypatch.setattr(peer, "_forget", watched)
    far = FarSide([peer.address], SECRET)
    far.tables(SETTINGS, 64)
    far.close()
    assert held.get(timeout=60)
    with contextlib.closing(FarSide([peer.address], SECRET)) as later:
        later.tables(SETTINGS, 64)
        assert len(segments()) == 1


def test_who_does_not_know_the_secret_learns_nothing(peer: Peer) -> None:
    with pytest.raises(TransportError, match="secret"):
        enter(*peer.address, b"another secret, of the right length")
    with socket.create_connection(peer.address) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert sock.recv(1) in (b"", b"\0")
    enter(*peer.address, SECRET).close()  # and it still serves


def test_what_a_peer_cannot_do_is_told(peer: Peer) -> None:
    far = FarSide([peer.address], SECRET)
    with pytest.raises(ConfigError, match="no such request"):
        far.ask(1, "dance")
    with pytest.raises(ConfigError):
        far.ask(1, "table", seed=1, peer=1, rows=0, row_bytes=64)
    with pytest.raises(ConfigError):
        far.ask(1, "table", nonsense=True)
    with pytest.raises(ConfigError):
        far.ask(1, "stream", name="no such table")
    with pytest.raises(TransportError, match="no room"):
        far.ask(1, "table", seed=1, peer=1, rows=1 << 40, row_bytes=64)
    assert segments() == []
    assert far.cpu_seconds() > 0
    far.close()


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(TransportError, match="--server"):
            FarSide([taken.getsockname()], SECRET)


def test_a_port_that_is_taken(peer: Peer) -> None:
    with pytest.raises(TransportError, match="--port"):
        Peer(SECRET, *peer.address)


def test_cpu_time_of_this_and_other_processes() -> None:
    own = cpu_seconds()
    assert cpu_seconds([os.getpid()]) >= 2 * own
    assert cpu_seconds([(1 << 22) + 1]) < 2 * own + 1
