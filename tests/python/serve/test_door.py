"""Who gets through the door, who does not, and that the others never notice."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rudder.errors import ConfigError, TransportError
from rudder.serve import handshake
from rudder.serve.client import DoorClient
from rudder.serve.door import Door, Limits
from rudder.serve.frames import MEMBER_BYTES, STRANGER_BYTES, WireError, framed
from rudder.serve.handshake import CLIENT, SERVER, Seal
from rudder.serve.messages import Admitted, Enter, Open, Opened, encode
from rudder.serve.reception import TABLES_OF_A_SESSION, Reception

SECRET = b"s" * 32
#: Deadlines that a test reaches quickly, and a peer on a busy machine keeps.
LIMITS = Limits(handshake_s=1.0, frame_s=1.0, strangers=8, sessions=16)


class Service:
    """Remembers sessions and tables; partition 7 alone, tables named ``x*`` alone."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.sessions: dict[int, bytes] = {}
        self.hosts: dict[int, tuple[str, ...]] = {}
        self.tables: dict[tuple[int, int], tuple[str, int, int]] = {}
        self.over: list[int] = []

    def enter(self, partition: int, address: bytes, hosts: tuple[str, ...]) -> Admitted:
        if partition != 7:
            raise TransportError(f"not partition {partition}")
        session = next(self.numbers)
        self.sessions[session] = address
        self.hosts[session] = hosts
        return Admitted(session, bytes(16), b"server's worker", ("10.0.0.1", "10.1.0.1"), "1.22.3")

    def open(self, session: int, table: int, name: str, rows: int, row_bytes: int) -> Opened:
        if not name.startswith("x"):
            raise ConfigError(f"no table {name}")
        self.tables[session, table] = (name, rows, row_bytes)
        return Opened(table, 1 << 40, b"key")

    def leave(self, session: int) -> None:
        del self.sessions[session]

    def ended(self) -> list[int]:
        over, self.over = self.over, []
        return over


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def door(service: Service) -> Iterator[Door]:
    opened = Door(service, SECRET, "127.0.0.1", limits=LIMITS)
    yield opened
    opened.close()
    assert service.sessions == {}


def enter(door: Door, secret: bytes = SECRET, partition: int = 7) -> DoorClient:
    return DoorClient(*door.address, secret, partition, b"client's worker", ("10.0.0.7",))


@contextlib.contextmanager
def connection(door: Door):
    with socket.create_connection(door.address, 10) as sock:
        yield sock


def read_frame(sock: socket.socket) -> bytes:
    length = b""
    while len(length) < 4:
        length += sock.recv(4 - len(length)) or b"?" * 4
    body = b""
    while len(body) < struct.unpack("!I", length)[0]:
        body += sock.recv(4096)
    return body


def ended(sock: socket.socket) -> bool:
    """Wait for the other side to end the connection; what it still says does not matter."""
    try:
        while sock.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


def prove(sock: socket.socket, secret: bytes = SECRET) -> tuple[Seal, Seal]:
    """A handshake by hand: (our seal, theirs)."""
    mine = handshake.greeting(CLIENT)
    sock.sendall(framed(mine))
    greetings = mine + read_frame(sock)
    sock.sendall(framed(handshake.proof(secret, CLIENT, greetings)))
    handshake.check_proof(read_frame(sock), secret, SERVER, greetings)
    return Seal(secret, CLIENT, greetings), Seal(secret, SERVER, greetings)


def until(condition) -> None:
    """Wait for what the door's thread does."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_peer_of_the_job_opens_tables(door: Door, service: Service) -> None:
    client = enter(door)
    assert service.sessions == {client.session: b"client's worker"}
    assert (client.server_address, client.server_version) == (b"server's worker", "1.22.3")
    # What each says of itself, and where its connection is seen to come from.
    assert service.hosts == {client.session: ("10.0.0.7", "127.0.0.1")}
    assert client.server_hosts == ("10.0.0.1", "10.1.0.1", "127.0.0.1")
    assert client.open(3, "x", 1 << 40, 512) == Opened(3, 1 << 40, b"key")
    assert service.tables == {(client.session, 3): ("x", 1 << 40, 512)}
    with pytest.raises(TransportError, match="no table secrets") as caught:
        client.open(4, "secrets", 1, 1)
    assert caught.value.part == 7
    client.open(5, "x2", 1, 1)  # a denial ends nothing
    client.close()
    until(lambda: not service.sessions)
    assert door.counts() == {}


def test_another_partitions_client_is_told(door: Door) -> None:
    with pytest.raises(TransportError, match="not partition 3"):
        enter(door, partition=3)


def test_names_that_could_be_more_than_names_are_refused(door: Door, service: Service) -> None:
    client = enter(door)
    for name in ("../x", "x/y", "x\n", "", "x\0", "x" * 201, "ä"):
        with pytest.raises(ConfigError, match="letters, digits"):
            client.open(1, name, 1, 1)
    client.close()
    with connection(door) as sock:
        ours, theirs = prove(sock)
        sock.sendall(framed(ours.close(encode(Enter(7, b"a")))))
        theirs.open(read_frame(sock))
        body = encode(Open(1, 1, 1, "x")) + b"/../../etc/passwd"
        sock.sendall(framed(ours.close(body)))
        assert ended(sock)
    assert door.counts() == {"garbage": 1}
    assert service.tables == {}


def test_a_wrong_secret_is_refused_and_told(door: Door, service: Service) -> None:
    with pytest.raises(TransportError, match="the secret is not that of its job"):
        enter(door, secret=b"t" * 32)
    assert door.counts() == {"secret": 1}
    assert service.sessions == {}


def test_the_client_does_not_trust_a_server_without_the_secret() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def pretend() -> None:
            sock, _ = listener.accept()
            with sock:
                read_frame(sock)
                sock.sendall(framed(handshake.greeting(SERVER)))
                proof = read_frame(sock)
                sock.sendall(framed(proof))  # back to where it came from

        thread = threading.Thread(target=pretend)
        thread.start()
        with pytest.raises(TransportError, match="proof of the job's secret is wrong"):
            DoorClient(*listener.getsockname(), SECRET, 7, b"a")
        thread.join()


def test_another_version_is_refused_and_told(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    stock = handshake.greeting
    monkeypatch.setattr(handshake, "greeting", lambda role: stock(role, version=role + 8))
    with pytest.raises(TransportError, match="another version of the protocol"):
        enter(door)
    assert door.counts() == {"version": 1}


def test_a_repeated_proof_is_worth_nothing(door: Door) -> None:
    heard = []
    with connection(door) as sock:
        mine = handshake.greeting(CLIENT)
        sock.sendall(framed(mine))
        proof = handshake.proof(SECRET, CLIENT, mine + read_frame(sock))
        heard = [framed(mine), framed(proof)]
        sock.sendall(heard[1])
        read_frame(sock)
    with connection(door) as sock:
        sock.sendall(b"".join(heard))
        assert ended(sock)
    assert door.counts() == {"secret": 1}


@pytest.mark.parametrize("forge", ["flip", "repeat", "skip"])
def test_frames_must_carry_the_next_seal(door: Door, service: Service, forge: str) -> None:
    with connection(door) as sock:
        ours, theirs = prove(sock)
        first = framed(ours.close(encode(Enter(7, b"a"))))
        sock.sendall(first)
        theirs.open(read_frame(sock))
        frame = ours.close(encode(Open(1, 1, 1, "x")))
        if forge == "skip":
            frame = ours.close(encode(Open(1, 1, 1, "x")))
        bad = {"flip": framed(frame[:-1] + bytes([frame[-1] ^ 1])), "repeat": first, "skip": framed(frame)}
        sock.sendall(bad[forge])
        assert ended(sock)
    assert door.counts() == {"forged": 1}
    assert service.tables == {}
    until(lambda: not service.sessions)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "oversized"),
        (struct.pack("!I", STRANGER_BYTES + 1), "oversized"),
        (struct.pack("!I", 0xFFFFFFFF), "oversized"),
        (struct.pack("!I", 0), "garbage"),
        (framed(b"x"), "garbage"),
        (framed(bytes(39)), "garbage"),
        (framed(handshake.greeting(SERVER)), "garbage"),
        (framed(handshake.greeting(CLIENT)) + framed(b"proof"), "secret"),
    ],
)
def test_strangers_that_talk_nonsense(door: Door, data: bytes, kind: str) -> None:
    with connection(door) as sock:
        sock.sendall(data)
        assert ended(sock)
    assert door.counts() == {kind: 1}
    enter(door).close()


def test_members_have_bounds_too(door: Door) -> None:
    for data, kind in [
        (struct.pack("!I", MEMBER_BYTES + 1), "oversized"),
        (framed(bytes(20)), "forged"),
    ]:
        with connection(door) as sock:
            prove(sock)
            sock.sendall(data)
            assert ended(sock)
        assert door.counts()[kind] == 1
    with connection(door) as sock:
        ours, _ = prove(sock)
        sock.sendall(framed(ours.close(encode(Open(1, 1, 1, "x")))))  # before Enter
        assert ended(sock)
    assert door.counts()["garbage"] == 1


@pytest.mark.parametrize(
    "said", ["nothing", "half a length", "half a greeting", "no proof", "no entry", "half"]
)
def test_half_open_peers_are_dropped_in_time(door: Door, said: str) -> None:
    client = enter(door)
    with connection(door) as sock:
        greeting = framed(handshake.greeting(CLIENT))
        if said in ("no entry", "half"):
            ours, _ = prove(sock)
            if said == "half":
                sock.sendall(framed(ours.close(encode(Enter(7, b"a"))))[:-1])
        else:
            sock.sendall(
                {"half a length": greeting[:2], "half a greeting": greeting[:9], "no proof": greeting}.get(
                    said, b""
                )
            )
        began = time.monotonic()
        assert ended(sock)
        assert time.monotonic() - began < LIMITS.handshake_s + LIMITS.frame_s + 5
    assert door.counts() == {"late": 1}
    client.open(1, "x", 1, 1)  # idle all the while, and still in
    client.close()


def test_a_trickle_does_not_buy_time(door: Door) -> None:
    greeting = framed(handshake.greeting(CLIENT))
    began = time.monotonic()
    with connection(door) as sock, contextlib.suppress(ConnectionError):
        for byte in greeting:
            sock.settimeout(0.2)
            sock.sendall(bytes([byte]))
            with contextlib.suppress(TimeoutError, socket.timeout):
                if not sock.recv(1):
                    break
    assert time.monotonic() - began < LIMITS.handshake_s + 5
    assert door.counts() == {"late": 1}


def test_a_peer_that_takes_no_answers_is_dropped(service: Service) -> None:
    with contextlib.closing(Door(service, SECRET, "127.0.0.1", limits=LIMITS)) as door:
        client = enter(door)
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        with sock:
            sock.connect(door.address)
            sock.settimeout(10)
            ours, theirs = prove(sock)
            sock.sendall(framed(ours.close(encode(Enter(7, b"a")))))
            theirs.open(read_frame(sock))
            # The longest answer to a short question, until nothing fits in any buffer on the way.
            question = encode(Open(1, 1, 1, "n" * 200))
            with contextlib.suppress(OSError):
                while True:
                    sock.sendall(b"".join(framed(ours.close(question)) for _ in range(100)))
            assert set(door.counts()) == {"slow"}
        client.open(1, "x", 1, 1)
        client.close()


def test_a_flood_does_not_keep_the_job_out(door: Door, service: Service, caplog) -> None:
    caplog.set_level(logging.WARNING)
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            for _ in range(LIMITS.strangers):
                stack.enter_context(connection(door))
            client = enter(door)
            client.open(1, "x", 1, 1)
            client.close()
        flood = door.counts()["flood"]
        assert flood >= 9 * LIMITS.strangers
    assert sum("proved nothing" in record.message for record in caplog.records) == 1


def test_sessions_are_bounded(door: Door, service: Service) -> None:
    inside = [enter(door) for _ in range(LIMITS.sessions)]
    with pytest.raises(TransportError, match="as many sessions as it may have"):
        enter(door)
    assert door.counts() == {"full": 1}
    inside.pop().close()
    until(lambda: len(service.sessions) < LIMITS.sessions)
    inside.append(enter(door))
    for client in inside:
        client.close()


def test_tables_of_a_session_are_bounded(service: Service) -> None:
    reception = Reception(service, SECRET, "10.0.0.2")
    mine = handshake.greeting(CLIENT)
    greetings = mine + reception.take(mine)
    reception.take(handshake.proof(SECRET, CLIENT, greetings))
    ours, theirs = Seal(SECRET, CLIENT, greetings), Seal(SECRET, SERVER, greetings)

    def ask(message) -> bytes:
        return theirs.open(reception.take(ours.close(encode(message))))

    ask(Enter(7, b"a"))
    for table in range(TABLES_OF_A_SESSION):
        ask(Open(table, 1, 1, "x"))
    assert b"1024 tables" in ask(Open(9999, 1, 1, "x"))
    assert len(service.tables) == TABLES_OF_A_SESSION


def test_sessions_that_the_service_ends_lose_their_connection(door: Door, service: Service) -> None:
    one, other = enter(door), enter(door)
    service.over.append(one.session)
    one.wait_until_gone()
    assert set(service.sessions) == {other.session}
    with pytest.raises(TransportError):
        one.open(1, "x", 1, 1)
    other.open(1, "x", 1, 1)
    one.close()
    other.close()


def test_a_fault_of_the_service_costs_one_session(
    door: Door, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = enter(door), enter(door)
    with monkeypatch.context() as patch:
        patch.setattr(service, "open", lambda *args: 1 / 0)
        with pytest.raises(TransportError):
            one.open(1, "x", 1, 1)
    other.open(1, "x", 1, 1)
    assert door.counts() == {"fault": 1}
    one.close()
    other.close()


def test_the_end_of_the_server_is_noticed(service: Service) -> None:
    door = Door(service, SECRET, "127.0.0.1", limits=LIMITS)
    client = enter(door)
    door.close()
    door.close()
    client.wait_until_gone()
    client.close()
    with pytest.raises(TransportError, match="cannot be reached"):
        enter(door)


def test_it_listens_at_one_address_only(service: Service) -> None:
    for everywhere in ("0.0.0.0", "::", ""):
        with pytest.raises(ConfigError, match="every network"):
            Door(service, SECRET, everywhere)
    with pytest.raises(TransportError, match="cannot listen"):
        Door(service, SECRET, "192.0.2.1")
    with contextlib.closing(Door(service, SECRET, "127.0.0.3", limits=LIMITS)) as door:
        assert door.address[0] == "127.0.0.3"
        with pytest.raises(OSError):  # noqa: PT011  (refused, or not reachable)
            socket.create_connection(("127.0.0.1", door.address[1]), 5)


def test_a_thousand_visits_leave_nothing(door: Door, service: Service) -> None:
    me = psutil.Process()

    def visit(times: int) -> None:
        for _ in range(times):
            client = enter(door)
            client.open(1, "x", 1, 1)
            client.close()
        until(lambda: not service.sessions)

    visit(100)
    before = (me.num_fds(), threading.active_count())
    memory = me.memory_info().rss
    visit(1000)
    assert (me.num_fds(), threading.active_count()) == before
    assert me.memory_info().rss - memory < 4 << 20
    assert door.counts() == {}


def test_running_out_of_descriptors_is_survived(door: Door) -> None:
    client = enter(door)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with connection(door) as waiting, socket.socket() as late:
        until(lambda: len(door._peers) == 2)
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            late.connect(door.address)
            until(lambda: "flood" in door.counts())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert ended(waiting)
    enter(door).close()
    client.open(1, "x", 1, 1)
    client.close()


FRAMES = st.one_of(
    st.binary(max_size=200).map(lambda body: struct.pack("!I", len(body)) + body),
    st.binary(max_size=200),
    st.just(framed(handshake.greeting(CLIENT))),
)


@settings(max_examples=int(os.environ.get("RUDDER_FUZZ_EXAMPLES", "150")), deadline=None)
@given(chunks=st.lists(FRAMES, max_size=6))
def test_no_bytes_hurt_it(chunks: list[bytes]) -> None:
    service = Service()
    with contextlib.closing(Door(service, SECRET, "127.0.0.1", limits=Limits(0.05, 0.05))) as door:
        inside = enter(door)
        with connection(door) as sock:
            with contextlib.suppress(OSError):
                for chunk in chunks:
                    sock.sendall(chunk)
            assert ended(sock)
        inside.open(1, "x", 1, 1)
        assert len(service.sessions) == 1
        inside.close()
    assert sum(door.counts().values()) <= 1


@settings(max_examples=int(os.environ.get("RUDDER_FUZZ_EXAMPLES", "300")), deadline=None)
@given(bodies=st.lists(st.binary(max_size=300), max_size=4))
def test_no_sealed_bytes_hurt_it(bodies: list[bytes]) -> None:
    """Even a peer of the job, with good seals, only gets answers or its end."""
    service = Service()
    reception = Reception(service, SECRET, "10.0.0.2")
    mine = handshake.greeting(CLIENT)
    greetings = mine + reception.take(mine)
    reception.take(handshake.proof(SECRET, CLIENT, greetings))
    ours = Seal(SECRET, CLIENT, greetings)
    with contextlib.suppress(WireError):
        for body in bodies:
            assert len(reception.take(ours.close(body))) <= MEMBER_BYTES
    assert all(name.startswith("x") for name, _, _ in service.tables.values())
