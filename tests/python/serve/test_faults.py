"""Feature servers and clients as processes, ill-treated: whoever falls over takes nobody along."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rudder import ucx
from rudder.errors import TransportError
from rudder.serve import handshake
from rudder.serve.door import Door
from rudder.serve.feature_server import FeatureServer
from rudder.serve.frames import framed
from rudder.serve.handshake import CLIENT, SERVER, Seal
from rudder.serve.messages import Enter, Open, encode

if ucx.why_not() is not None:
    pytest.skip(str(ucx.why_not()), allow_module_level=True)
pytest.importorskip("typer")

import numpy as np
from serving import SECRET, Segment, ServerProcess, connected, environment, read, reading, stop

#: Seconds of the fuzzer; more by hand.
FUZZ_S = float(os.environ.get("RUDDER_FUZZ_SECONDS", "3"))


@pytest.fixture
def segment(monkeypatch: pytest.MonkeyPatch) -> Iterator[Segment]:
    monkeypatch.delenv("RUDDER_JOB", raising=False)
    with contextlib.closing(Segment()) as made:
        yield made


@pytest.fixture
def server(segment: Segment, tmp_path: Path) -> Iterator[ServerProcess]:
    with contextlib.closing(ServerProcess(tmp_path)) as made:
        yield made


def test_a_server_of_another_version(segment: Segment, tmp_path: Path) -> None:
    other = (
        "from rudder.serve import handshake; handshake.VERSION += 1;"
        "handshake.greeting.__kwdefaults__['version'] = handshake.VERSION;"
        "from rudder.cli import main; main()"
    )
    with contextlib.closing(ServerProcess(tmp_path, start=("-c", other))) as server:
        with (
            pytest.raises(TransportError, match="speaks another version of the protocol"),
            connected(server, segment),
        ):
            pass
        code, errors = server.end()
        assert code == 0
        assert f"it speaks version {handshake.VERSION}, this is version {handshake.VERSION + 1}" in errors


# More than sockets on the way hold, and each row once: the core would merge the same ones.
MANY = 60_000
READS_FOR_EVER = """
import sys; sys.path.insert(0, {folder!r})
from serving import *
connector = Connector([("127.0.0.1", 1), ("127.0.0.1", {port})], SECRET.encode(), own=0)
connector.open(1, 3, {key!r}, {many}, ROW_BYTES)
with reading(connector, rows={many}) as core:
    print("reads", flush=True)
    while True:
        read(core, np.arange({many}))
"""


def test_a_client_that_stops_reading_is_dismissed_and_holds_up_nobody(segment: Segment) -> None:
    rows = ucx.load().UcxServer(devices="lo", tls="tcp", stall_s=1.0)
    service = FeatureServer(rows, 1, lambda name: f"/{name}-kvdata-", "1.22.0")
    with contextlib.ExitStack() as stack:
        many = stack.enter_context(contextlib.closing(Segment(MANY)))
        stack.enter_context(contextlib.closing(rows))
        door = stack.enter_context(contextlib.closing(Door(service, SECRET.encode(), "127.0.0.1")))
        folder = str(Path(__file__).parent)
        code = READS_FOR_EVER.format(folder=folder, port=door.address[1], key=many.key, many=MANY)
        slow = subprocess.Popen([sys.executable, "-c", code], env=environment(), stdout=subprocess.PIPE)
        try:
            assert slow.stdout is not None
            assert slow.stdout.readline() == b"reads\n"
            core = stack.enter_context(
                reading(stack.enter_context(connected(door.address, segment)), deadline=5.0)
            )
            wanted = np.arange(1000)
            while rows.stats()["sessions"] > 1:
                stop(slow)
                while rows.stats()["sessions"] > 1:
                    assert np.array_equal(read(core, wanted), segment.rows[wanted])
                    if rows.stats()["staged_bytes"] == 0:
                        break  # it was stopped between two reads: once more
                else:
                    break
                slow.send_signal(signal.SIGCONT)
            until = time.monotonic() + 10
            while rows.stats()["staged_bytes"] > 0:
                assert time.monotonic() < until
            assert np.array_equal(read(core, wanted), segment.rows[wanted])
        finally:
            slow.kill()
            slow.communicate()


def prove(sock: socket.socket) -> Seal:
    """Come in as a peer of the job does; the seal of what follows."""

    def frame() -> bytes:
        length = int.from_bytes(sock.recv(4, socket.MSG_WAITALL), "big")
        return sock.recv(length, socket.MSG_WAITALL)

    mine = handshake.greeting(CLIENT)
    sock.sendall(framed(mine))
    greetings = mine + frame()
    sock.sendall(framed(handshake.proof(SECRET.encode(), CLIENT, greetings)))
    handshake.check_proof(frame(), SECRET.encode(), SERVER, greetings)
    return Seal(SECRET.encode(), CLIENT, greetings)


def wrong_message(chance: random.Random) -> bytes:
    """What only a peer of the job can say: bytes of any kind, or messages with wrong contents.

    A worker's address of UCX's own format is left out: it is UCX's to judge (docs/door.md).
    """
    address = bytes([chance.choice([0xF1, 0x02, 0x7F])]) + chance.randbytes(chance.randrange(100))
    message = chance.choice(
        [
            Enter(chance.choice([0, 1, 2**32 - 1]), address, ("127.0.0.1",) * chance.randrange(64)),
            Open(chance.randrange(2**32), chance.randrange(2**64), chance.randrange(2**32), "node~_N~x"),
        ]
    )
    body = bytearray(encode(message))
    for _ in range(chance.randrange(3)):
        body[chance.randrange(len(body))] = chance.randrange(256)
    if body[0] == 0x10 and len(body) > 6 and body[5] == 0:
        body[6] |= 0x70  # no format of UCX's
    return bytes(chance.choice([body, chance.randbytes(chance.randrange(1, 300))]))


def test_a_fuzzer_at_the_door_and_at_ucxs_port_hurts_nobody(server: ServerProcess, segment: Segment) -> None:
    process = psutil.Process(server.process.pid)
    listens = [c.laddr.port for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    (ucxs,) = [port for port in listens if port != server.place[1]]
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    until = time.monotonic() + FUZZ_S
    wanted = np.arange(100)
    with connected(server.place, segment) as connector, reading(connector) as core:
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.socket() as stranger:
                stranger.bind(("127.0.0.9", 0))
                stranger.settimeout(0.01)
                stranger.connect(("127.0.0.1", ucxs))
                raise AssertionError("a stranger got to UCX's own port")
            with contextlib.suppress(OSError), socket.create_connection(server.place, 5) as sock:
                sock.settimeout(5)
                if chance.random() < 0.3:
                    sock.sendall(chance.randbytes(chance.randrange(1, 5000)))
                else:
                    seal = prove(sock)
                    for _ in range(chance.randrange(1, 5)):
                        sock.sendall(framed(seal.close(wrong_message(chance))))
            assert np.array_equal(read(core, wanted), segment.rows[wanted]), f"seed {seed}"
            assert server.process.poll() is None, f"seed {seed}"
    code, _ = server.end()
    assert code == 0, f"seed {seed}"
