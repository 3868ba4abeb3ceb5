"""Feature servers with the real UCX: rows over the wire, and what happens when a side goes away."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from rudder import ucx
from rudder.errors import ConfigError, RudderError, TransportError
from rudder.serve import connector as connector_module
from rudder.serve.connector import Connector
from rudder.serve.places import ENV_SERVERS
from rudder.serve.process import ServeSettings, serving

if ucx.why_not() is not None:
    pytest.skip(str(ucx.why_not()), allow_module_level=True)

from serving import (
    ROW_BYTES,
    ROWS,
    SECRET,
    Segment,
    ServerProcess,
    connected,
    environment,
    read,
    reading,
    stop,
)


@pytest.fixture
def segment(monkeypatch: pytest.MonkeyPatch) -> Iterator[Segment]:
    monkeypatch.delenv("RUDDER_JOB", raising=False)
    with contextlib.closing(Segment()) as made:
        yield made


@pytest.fixture
def server(segment: Segment, tmp_path: Path) -> Iterator[ServerProcess]:
    pytest.importorskip("typer")
    with contextlib.closing(ServerProcess(tmp_path)) as made:
        yield made


def test_rows_come_bit_for_bit(server: ServerProcess, segment: Segment) -> None:
    assert server.ready == "ready: partition 1 is served at {}:{}\n".format(*server.place)
    wanted = np.random.default_rng(1).integers(0, ROWS, 20000)
    with connected(server, segment) as connector, reading(connector) as core:
        assert np.array_equal(read(core, wanted), segment.rows[wanted])
        segment.rows[wanted[0]] = 77  # no copy at the server
        assert (read(core, wanted[:1]) == 77).all()
    code, errors = server.end()
    assert (code, errors) == (0, "")


def test_a_job_that_nobody_launched_finds_them_by_their_files(
    server: ServerProcess, segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").touch(0o600)
    (tmp_path / "secret").write_text(SECRET)
    monkeypatch.setenv("RUDDER_SECRET_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv(ENV_SERVERS, str(tmp_path))
    with contextlib.closing(connector_module.shared(0)) as connector:
        connector.open(1, 3, segment.key, ROWS, ROW_BYTES)
        with reading(connector) as core:
            assert np.array_equal(read(core, np.arange(10)), segment.rows[:10])


def test_what_is_not_there(server: ServerProcess, segment: Segment) -> None:
    with connected(server, segment) as connector:
        with pytest.raises(TransportError, match="partition 1"):
            connector.open(1, 4, "node~_N~absent", 10, 8)
        with pytest.raises(TransportError, match="partition 1"):
            connector.open(1, 4, segment.key, ROWS + 10000, ROW_BYTES)
        for rows, row_bytes in ((2**63, 2), (2**64 - 1, 2**32 - 1), (2**61, 8), (10, 0)):
            with pytest.raises(RudderError):
                connector.open(1, 4, segment.key, rows, row_bytes)
        connector.open(1, 4, segment.key, ROWS, ROW_BYTES)  # the session goes on


def test_a_wrong_secret(server: ServerProcess, segment: Segment) -> None:
    with (
        pytest.raises(TransportError, match="the secret is not that of its job"),
        connected(server, segment, "6" * 32),
    ):
        pass
    code, errors = server.end()
    assert code == 0
    assert errors.count("\n") == 1
    assert "proof of the job's secret is wrong" in errors
    assert SECRET not in errors


def gets_through(host: str, port: int) -> bool:
    """Whether a connection from this address of ours to the port is made; garbage follows where it is."""
    with socket.socket() as sock:
        sock.bind((host, 0))
        sock.settimeout(0.3)  # far longer than loopback takes, shorter than a repeated try
        try:
            sock.connect(("127.0.0.1", port))
        except OSError:
            return False
        with contextlib.suppress(OSError):  # it may end the connection
            sock.sendall(os.urandom(100_000))
        return True


def ports_of(process: psutil.Process, *, besides: int | None = None) -> list[int]:
    found = [c.laddr.port for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    return [port for port in found if port != besides]


def test_strangers_do_not_get_to_ucxs_own_ports(server: ServerProcess, segment: Segment) -> None:
    (theirs,) = ports_of(psutil.Process(server.process.pid), besides=server.place[1])
    mine = set(ports_of(psutil.Process()))
    rows = np.arange(100)
    assert not gets_through("127.0.0.1", theirs)  # nobody has proved anything yet
    with connected(server, segment) as connector, reading(connector) as core:
        (ours,) = set(ports_of(psutil.Process())) - mine
        for _ in range(10):
            for port in (theirs, ours):
                assert not gets_through("127.0.0.9", port)
            assert np.array_equal(read(core, rows), segment.rows[rows])
        with socket.create_connection(("127.0.0.1", theirs), 10):  # an admitted host may
            pass
        assert connector.transport.stats()["errors"] == 0
    code, errors = server.end()
    assert (code, errors) == (0, "")


def test_the_way_in_waits_for_no_lost_packet(server: ServerProcess, segment: Segment) -> None:
    spent = []
    for _ in range(3):
        began = time.monotonic()
        with connected(server, segment) as connector, reading(connector) as core:
            read(core, np.arange(10))
            spent.append(time.monotonic() - began)
    # A first packet that came before the lock was open is repeated after a second.
    assert min(spent) < 0.9


def test_the_secret_is_on_no_command_line(server: ServerProcess) -> None:
    assert not any(SECRET in word for word in psutil.Process(server.process.pid).cmdline())


def test_a_killed_server_fails_fetches_and_a_new_one_serves(
    server: ServerProcess, segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector_module, "_FIRST_DELAY_S", 0.05)
    rows = np.arange(100)
    with connected(server, segment) as connector, reading(connector) as core:
        assert np.array_equal(read(core, rows), segment.rows[rows])
        place = server.place
        server.end(signal.SIGKILL)
        with pytest.raises(TransportError) as caught:
            read(core, rows)
        assert caught.value.part == 1
        assert caught.value.place == "{}:{}".format(*place)
        assert f"ucx from {caught.value.place}" in str(caught.value)
        assert set(caught.value.ids) <= set(rows.tolist())
        again = ServerProcess(tmp_path, port=place[1])
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    got = read(core, rows)
                    break
                except TransportError:
                    assert time.monotonic() < deadline
            assert np.array_equal(got, segment.rows[rows])
        finally:
            again.end()


def test_a_stopped_server_misses_the_deadline_and_serves_when_it_goes_on(
    server: ServerProcess, segment: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector_module, "_FIRST_DELAY_S", 0.05)
    rows = np.arange(100)
    with connected(server, segment) as connector, reading(connector, deadline=1.0) as core:
        read(core, rows)
        stop(server.process)
        began = time.monotonic()
        with pytest.raises(TransportError) as caught:
            read(core, rows)
        assert time.monotonic() - began < 10
        assert caught.value.part == 1
        server.process.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(TransportError):
                assert np.array_equal(read(core, rows), segment.rows[rows])
                break
            assert time.monotonic() < deadline


def test_several_clients_of_one_server(server: ServerProcess, segment: Segment) -> None:
    wrong: list[int] = []

    def client(seed: int) -> None:
        wanted = np.random.default_rng(seed).integers(0, ROWS, 3000)
        with connected(server, segment) as connector, reading(connector) as core:
            for _ in range(5):
                wrong.append(int((read(core, wanted) != segment.rows[wanted]).sum()))

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [0] * 20


@pytest.mark.slow
def test_sessions_leave_nothing(segment: Segment) -> None:
    me = psutil.Process()

    def segments() -> int:
        """Shared memory that this process has mapped, of System V and of POSIX."""
        maps = Path("/proc/self/maps").read_text().splitlines()
        return sum("/SYSV" in line or "/dev/shm/" in line for line in maps)

    def visit(times: int, server) -> None:
        for _ in range(times):
            with contextlib.closing(
                Connector([("127.0.0.1", 1), server], SECRET.encode(), own=0)
            ) as connector:
                connector.open(1, 3, segment.key, ROWS, ROW_BYTES)
                with reading(connector) as core:
                    assert np.array_equal(read(core, np.arange(3)), segment.rows[:3])

    def held() -> tuple[int, ...]:
        return me.num_fds(), threading.active_count(), me.num_threads(), segments()

    with serving(ServeSettings(1, "127.0.0.1"), SECRET.encode()) as door:
        visit(50, door.address)
        before, memory = held(), me.memory_info().rss
        visit(int(os.environ.get("RUDDER_CYCLES", "1000")), door.address)
        deadline = time.monotonic() + 60
        # The server may still be closing its end of the last session, now as it may have been before.
        while door.counts() or any(now > then for now, then in zip(held(), before)):
            assert time.monotonic() < deadline, (door.counts(), held(), before)
            time.sleep(0.01)
        assert me.memory_info().rss - memory < 32 << 20


@pytest.mark.parametrize(
    "left",
    [
        "transport = compiled.UcxTransport(devices='lo', tls='tcp')",
        "server = compiled.UcxServer(devices='lo', tls='tcp')",
        "t = compiled.UcxTransport(devices='lo', tls='tcp'); os.fork() or sys.exit()",
    ],
)
def test_what_is_left_open_ends_with_the_interpreter(left: str) -> None:
    code = f"import os, sys; from rudder import ucx; compiled = ucx.load(); {left}; print('bye')"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "bye\n", "")


def test_ucx_listens_where_its_ports_can_be_locked() -> None:
    # The lock tells IPv4 addresses apart, and no others.
    code = """
from rudder import ucx
compiled = ucx.load()
for worker in (compiled.UcxTransport(devices="lo", tls="tcp"), compiled.UcxServer(devices="lo", tls="tcp")):
    assert (worker.hosts, worker.why_open) == (["127.0.0.1"], ""), (worker.hosts, worker.why_open)
    worker.close()
    assert worker.hosts == ["127.0.0.1"]
"""
    subprocess.run(
        [sys.executable, "-c", code],
        env={**environment(), "UCX_TCP_AF_PRIO": "inet6"},
        check=True,
        timeout=60,
    )


def test_settings_that_cannot_work() -> None:
    for wrong in ({"partition": -1}, {"port": -1}, {"threads": 0}):
        with pytest.raises(ConfigError, match="must be at least"):
            ServeSettings(**{"partition": 0, "address": "127.0.0.1", **wrong})


def test_an_address_file_that_cannot_be_written(tmp_path: Path) -> None:
    settings = ServeSettings(partition=0, address="127.0.0.1", address_file=str(tmp_path / "absent" / "0"))
    with (
        pytest.raises(ConfigError, match="absent/0 cannot be written: No such file"),
        serving(settings, SECRET.encode()),
    ):
        pass


def test_an_address_that_no_interface_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UCX_NET_DEVICES", raising=False)
    for address in ("192.0.2.77", "::1"):
        with (
            pytest.raises(ConfigError, match="no network interface"),
            serving(ServeSettings(partition=0, address=address), SECRET.encode()),
        ):
            pass
