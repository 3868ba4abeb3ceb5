"""Sessions with all servers of a job: opened once, closed in order, found again after a loss. Without UCX."""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from rudder import ucx
from rudder.errors import ClosedError, ConfigError, TransportError
from rudder.serve import client as client_module
from rudder.serve import connector as connector_module
from rudder.serve.connector import Connector, shared
from rudder.serve.door import Door
from rudder.serve.feature_server import FeatureServer
from rudder.serve.places import Folder, parse_servers

SECRET = b"s" * 32


class Rows:
    """A UcxServer that only remembers."""

    address = b"server's worker"
    hosts = ("10.0.0.1",)

    def __init__(self) -> None:
        self.let: dict[int, list[str]] = {}
        self.sessions: dict[int, tuple[bytes, bytes]] = {}
        self.grants: set[tuple[int, int, int]] = set()
        self.regions: list[tuple[str, int, int]] = []
        self.lost: list[int] = []

    def expose(self, segment: str, rows: int, row_bytes: int) -> int:
        if rows > 1000:
            raise TransportError(f"{segment} is too short for {rows} rows")
        self.regions.append((segment, rows, row_bytes))
        return len(self.regions) - 1

    def let_in(self, session: int, hosts: list[str]) -> None:
        self.let[session] = hosts

    def admit(self, session: int, token: bytes, address: bytes) -> None:
        assert session in self.let
        self.sessions[session] = (token, address)

    def grant(self, session: int, table: int, region: int) -> None:
        assert session in self.sessions
        self.grants.add((session, table, region))

    def offer(self, region: int) -> tuple[int, bytes, str]:
        return 4096 * region, b"key %d" % region, "none"

    def dismiss(self, session: int) -> None:
        self.sessions.pop(session, None)

    def dismissed(self) -> list[int]:
        lost, self.lost = self.lost, []
        return lost


class Transport:
    """A UcxTransport that tells what it is asked, in order."""

    address = b"client's worker"
    hosts = ("10.0.0.7",)
    why_open = ""

    def __init__(self, *, devices: str) -> None:
        self.devices = devices
        self.losses: queue.SimpleQueue[tuple[int, int, str] | None] = queue.SimpleQueue()
        self.told: queue.SimpleQueue[tuple] = queue.SimpleQueue()
        self.sessions: dict[int, int] = {}

    def let_in(self, peer: int, hosts: list[str]) -> None:
        self.told.put(("let in", peer, *hosts))

    def connect(
        self, peer: int, address: bytes, session: int, token: bytes, version: str, place: str
    ) -> None:
        assert (address, len(token), version) == (Rows.address, 16, "1.22.3")
        assert place.startswith("127.0.0.1:")
        self.sessions[peer] = session
        self.told.put(("connect", peer))

    def open(
        self, peer: int, table: int, rows: int, row_bytes: int, at: int, key: bytes, why_no_key: str
    ) -> None:
        assert (key, why_no_key) == (b"key %d" % (at // 4096), "none")
        self.told.put(("open", peer, table, rows, row_bytes))

    def disconnect(self, peer: int, why: str) -> None:
        self.told.put(("disconnect", peer, why))

    def next_loss(self) -> tuple[int, int, str] | None:
        return self.losses.get()

    def close(self) -> None:
        self.told.put(("close",))
        self.losses.put(None)

    def hears(self) -> tuple:
        return self.told.get(timeout=10)

    def enters(self) -> tuple:
        """What it hears once a server has let it in."""
        assert self.hears()[0] == "let in"
        return self.hears()


@pytest.fixture(autouse=True)
def no_ucx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ucx, "load", lambda: types.SimpleNamespace(UcxTransport=Transport))
    monkeypatch.setattr(connector_module, "_FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(connector_module, "_START_S", 1.0)


class Server:
    """A partition's door, which may be opened again at the same place."""

    def __init__(self, partition: int) -> None:
        self.partition, self.port = partition, 0
        self.start()

    def start(self) -> None:
        self.rows = Rows()
        service = FeatureServer(self.rows, self.partition, lambda name: f"/{name}-kvdata-", "1.22.3")
        self.door = Door(service, SECRET, "127.0.0.1", self.port)
        self.port = self.door.address[1]

    def close(self) -> None:
        self.door.close()


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    started = [Server(0), Server(1)]
    yield started
    for server in started:
        server.close()


@pytest.fixture
def connector(servers: list[Server]) -> Iterator[Connector]:
    made = Connector([server.door.address for server in servers], SECRET, own=0)
    yield made
    made.close()


def test_tables_of_a_server_share_a_session(servers: list[Server], connector: Connector) -> None:
    assert connector.transport.devices == "lo"
    connector.open(1, 5, "node~_N~x", 100, 64)
    connector.open(1, 6, "node~_N~y", 200, 32)
    connector.open(0, 5, "node~_N~x", 50, 64)
    rows = servers[1].rows
    assert len(rows.sessions) == 1
    assert rows.regions == [("/node~_N~x-kvdata-", 100, 64), ("/node~_N~y-kvdata-", 200, 32)]
    session = next(iter(rows.sessions))
    assert rows.grants == {(session, 5, 0), (session, 6, 1)}
    # Nobody connects before the other side has let it in.
    assert rows.let == {session: ["10.0.0.7", "127.0.0.1"]}
    assert [connector.transport.hears() for _ in range(7)] == [
        ("let in", 1, "10.0.0.1", "127.0.0.1"),
        ("connect", 1),
        ("open", 1, 5, 100, 64),
        ("open", 1, 6, 200, 32),
        ("let in", 0, "10.0.0.1", "127.0.0.1"),
        ("connect", 0),
        ("open", 0, 5, 50, 64),
    ]


def test_what_cannot_be_opened(servers: list[Server], connector: Connector) -> None:
    with pytest.raises(TransportError, match=r"partition 1 .* too short for 5000 rows"):
        connector.open(1, 1, "x", 5000, 1)
    with pytest.raises(ConfigError, match="letters, digits"):
        connector.open(1, 1, "../x", 1, 1)
    with pytest.raises(TransportError, match="names no feature server for partition 2"):
        connector.open(2, 1, "x", 1, 1)
    connector.close()
    with pytest.raises(ClosedError):
        connector.open(1, 1, "x", 1, 1)
    deadline = time.monotonic() + 10
    while servers[1].rows.sessions:  # its door's thread finds the connection ended
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_servers_named_in_a_wrong_order_are_found_out(servers: list[Server]) -> None:
    places = [server.door.address for server in reversed(servers)]
    with (
        contextlib.closing(Connector(places, SECRET)) as connector,
        pytest.raises(TransportError, match="it serves partition 0, not 1"),
    ):
        connector.open(1, 1, "x", 1, 1)


def test_a_server_that_is_not_there_is_waited_for_once(servers: list[Server], caplog) -> None:
    servers[1].close()
    with contextlib.closing(Connector([server.door.address for server in servers], SECRET)) as connector:
        with pytest.raises(TransportError, match="cannot be reached") as first:
            connector.open(1, 1, "x", 1, 1)
        with pytest.raises(TransportError) as second:
            connector.open(1, 2, "y", 1, 1)
        assert second.value is first.value


@pytest.mark.parametrize("noticed_by", ["door", "transport"])
def test_a_server_that_comes_back_serves_again(
    servers: list[Server], connector: Connector, caplog, noticed_by: str
) -> None:
    caplog.set_level(logging.WARNING)
    connector.open(1, 5, "x", 10, 8)
    transport = connector.transport
    assert [transport.enters(), transport.hears()] == [("connect", 1), ("open", 1, 5, 10, 8)]
    if noticed_by == "door":
        servers[1].close()
        assert transport.hears() == ("disconnect", 1, "its connection ended")
        with pytest.raises(TransportError, match="is away"):
            connector.open(1, 6, "y", 10, 8)
        servers[1].start()
    else:
        transport.losses.put((1, transport.sessions[1], "Connection reset by remote peer"))
        assert transport.hears() == ("disconnect", 1, "Connection reset by remote peer")
    assert [transport.enters(), transport.hears()] == [("connect", 1), ("open", 1, 5, 10, 8)]
    rows = servers[1].rows
    assert {grant[1:] for grant in rows.grants} == {(5, 0)}
    warnings = [record.message for record in caplog.records]
    lost = "lost the feature server of partition 1 at {}:{}: ".format(*servers[1].door.address)
    assert sum(lost in warning for warning in warnings) == 1


def test_a_late_loss_of_the_session_before_ends_nothing(servers: list[Server], connector: Connector) -> None:
    connector.open(1, 5, "x", 10, 8)
    connector.open(0, 5, "x", 10, 8)
    transport = connector.transport
    before = transport.sessions[1]
    servers[1].close()
    while transport.hears() != ("disconnect", 1, "its connection ended"):
        pass
    servers[1].start()  # it counts its sessions anew
    assert [transport.enters()[0], transport.hears()[0]] == ["connect", "open"]
    assert transport.sessions[1] != before
    transport.losses.put((1, before, "late"))
    transport.losses.put((0, transport.sessions[0], "after it"))
    assert transport.hears() == ("disconnect", 0, "after it")
    assert [transport.enters(), transport.hears()[:2]] == [("connect", 0), ("open", 0)]
    transport.losses.put((1, transport.sessions[1], "now"))
    assert transport.hears() == ("disconnect", 1, "now")


def test_a_session_that_the_server_gives_up_is_made_anew(servers: list[Server], connector: Connector) -> None:
    connector.open(1, 5, "x", 10, 8)
    rows = servers[1].rows
    first = next(iter(rows.sessions))
    rows.lost.append(first)
    for _ in range(7):
        heard = connector.transport.hears()
    assert heard == ("open", 1, 5, 10, 8)
    assert set(rows.sessions) == {first + 1}


def test_closing_while_a_server_is_away(servers: list[Server], connector: Connector) -> None:
    connector.open(1, 5, "x", 10, 8)
    servers[1].close()
    while connector.transport.hears()[0] != "disconnect":
        pass
    connector.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("rudder-ucx")]


@pytest.mark.parametrize("accepts", [True, False])
def test_closing_while_a_server_says_nothing(
    servers: list[Server], monkeypatch: pytest.MonkeyPatch, accepts: bool
) -> None:
    # Far more than `close` waits for its threads: they end because they are told to.
    monkeypatch.setattr(client_module.DoorClient.__init__, "__defaults__", ((), 600.0, lambda sock: None))
    monkeypatch.setattr(connector_module, "_END_S", 60.0)
    connector = Connector([server.door.address for server in servers], SECRET, own=0)
    connector.open(1, 5, "x", 10, 8)
    silence, began = threading.Event(), threading.Event()
    stock = connector_module._Peer._begins

    def begins(self: connector_module._Peer, sock: socket.socket) -> None:
        assert silence.wait(60)
        stock(self, sock)
        began.set()

    monkeypatch.setattr(connector_module._Peer, "_begins", begins)
    servers[1].close()
    with socket.socket() as silent, contextlib.ExitStack() as stack:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        silent.bind(servers[1].door.address)
        silent.listen(0)
        if not accepts:  # its queue is full: who connects hears nothing
            stack.enter_context(socket.create_connection(servers[1].door.address))
        silence.set()
        assert began.wait(60)
        if accepts:
            peer, _ = silent.accept()
            stack.enter_context(peer)
            assert peer.recv(1)
        connector.close()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("rudder-ucx")]


def test_servers_that_never_come_are_waited_for_together(
    servers: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def away(host: str, port: int, secret: bytes, partition: int, *args: object, **more: object) -> None:
        asked.append(partition)
        raise TransportError("away", partition) from ConnectionRefusedError()

    monkeypatch.setattr(connector_module, "DoorClient", away)
    monkeypatch.setattr(connector_module, "_START_S", 0.3)
    with contextlib.closing(Connector([("127.0.0.1", 1)] * 3, SECRET)) as connector:
        for part in (1, 2):
            with pytest.raises(TransportError, match="away"):
                connector.open(part, 1, "x", 1, 1)
    assert asked[-1] == 2
    assert asked.count(2) == 1  # the first one's wait was for both


def test_silent_servers_are_waited_for_together(
    servers: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Longer than the test: who waits for one after another never comes to the last.
    monkeypatch.setattr(client_module.DoorClient.__init__, "__defaults__", ((), 600.0, lambda sock: None))
    monkeypatch.setattr(connector_module, "_START_S", 0.0)
    count = 3
    all_asked = threading.Barrier(count)
    broken: list[int] = []

    def say_nothing(listener: socket.socket, part: int) -> None:
        with listener, contextlib.closing(listener.accept()[0]) as client:
            assert client.recv(1)
            try:
                all_asked.wait(60)
            except threading.BrokenBarrierError:
                broken.append(part)

    with contextlib.ExitStack() as stack:
        places = [servers[0].door.address]
        for part in range(1, count + 1):
            listener = socket.create_server(("127.0.0.1", 0))
            places.append(listener.getsockname())
            thread = threading.Thread(target=say_nothing, args=(listener, part))
            thread.start()
            stack.callback(thread.join)
        connector = stack.enter_context(contextlib.closing(Connector(places, SECRET)))
        connector.enter(range(count + 1))
        assert not broken
        assert connector.transport.enters() == ("connect", 0)
        connector.open(0, 5, "x", 10, 8)
        for part in range(1, count + 1):
            with pytest.raises(TransportError, match=f"of partition {part} at .* does not answer"):
                connector.open(part, 5, "x", 10, 8)  # as it was: nobody listens there any more


def test_the_processs_connector(servers: list[Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector_module, "_shared", None)
    monkeypatch.delenv("RUDDER_FEATURE_SERVERS", raising=False)
    with pytest.raises(TransportError, match="no feature servers run"):
        shared(0)
    monkeypatch.setenv("RUDDER_FEATURE_SERVERS", ",".join("{}:{}".format(*s.door.address) for s in servers))
    monkeypatch.delenv("RUDDER_SECRET", raising=False)
    monkeypatch.delenv("RUDDER_SECRET_FILE", raising=False)
    with pytest.raises(ConfigError, match="no secret"):
        shared(0)
    monkeypatch.setenv("RUDDER_SECRET", SECRET.decode())
    made = shared(0)
    assert shared(0) is made
    made.open(0, 1, "x", 1, 1)
    made.close()
    assert shared(0) is not made
    shared(0).close()


def test_servers_are_found_by_the_files_that_they_write(
    servers: list[Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(connector_module, "_shared", None)
    monkeypatch.setenv("RUDDER_FEATURE_SERVERS", str(tmp_path))
    monkeypatch.setenv("RUDDER_SECRET", SECRET.decode())
    made = shared(0)
    with pytest.raises(TransportError, match=r"partition 1 has not written .*/1: No such file"):
        made.open(1, 5, "x", 10, 8)
    made.close()
    (tmp_path / "1").write_text(f"127.0.0.1:{servers[1].door.address[1]}\n")
    with contextlib.closing(shared(0)) as made:
        made.open(1, 5, "x", 10, 8)
        transport = made.transport
        assert [transport.enters(), transport.hears()] == [("connect", 1), ("open", 1, 5, 10, 8)]
        # Back at another port, of which its file tells.
        servers[1].close()
        servers[1].port = 0
        servers[1].start()
        (tmp_path / "1").write_text(f"127.0.0.1:{servers[1].door.address[1]}\n")
        assert transport.hears()[0] == "disconnect"
        assert [transport.enters(), transport.hears()] == [("connect", 1), ("open", 1, 5, 10, 8)]
    (tmp_path / "1").write_text("nonsense")
    with pytest.raises(ConfigError, match="expected host:port"):
        Folder(tmp_path)[1]


class Late:
    """A folder into which the servers write after a few looks."""

    def __init__(self, looks: float) -> None:
        self.looks = looks

    def __getitem__(self, part: int) -> tuple[str, int]:
        self.looks -= 1
        if self.looks > 0:
            raise TransportError(f"partition {part} has not written", part)
        return "127.0.0.1", 1


def test_the_hosts_own_server_is_waited_for_since_it_names_the_network(caplog) -> None:
    with contextlib.closing(Connector(Late(3), SECRET, own=0)) as connector:
        assert connector.transport.devices == "lo"
    assert not caplog.records


def test_without_a_server_on_this_host_any_network_is_used_and_that_is_said(caplog) -> None:
    with contextlib.closing(Connector(Late(float("inf")), SECRET, own=0)) as connector:
        assert connector.transport.devices == ""
    assert "UCX uses any" in caplog.text


def test_more_addresses_than_can_be_told_are_an_error_of_this_transport(
    connector: Connector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transport, "hosts", tuple(f"10.0.1.{n}" for n in range(100)))
    with pytest.raises(TransportError, match="100 hosts of one worker"):
        connector.open(1, 5, "x", 10, 8)


def test_who_could_not_be_connected_to_is_let_in_no_longer(
    connector: Connector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise TransportError("no endpoint")

    monkeypatch.setattr(Transport, "connect", refuse)
    with pytest.raises(TransportError, match="no endpoint"):
        connector.open(1, 5, "x", 10, 8)
    assert [connector.transport.hears()[0] for _ in range(2)] == ["let in", "disconnect"]


def test_places() -> None:
    assert parse_servers("10.0.0.1:80, [::1]:90,host:0") == [("10.0.0.1", 80), ("::1", 90), ("host", 0)]
    for wrong in ("", "host", "host:", ":80", "host:70000", "a:1,,b:2"):
        with pytest.raises(ConfigError, match="expected host:port"):
            parse_servers(wrong)
