"""Which transports are used, and in what order; the micro-transfer condemns one for wrong rows, never for
another trainer's writes."""

from __future__ import annotations

import contextlib
import logging
import types

import numpy as np
import pytest

from rudder import ArraySource
from rudder._core import LoopbackTransport
from rudder.errors import ConfigError, TransportError
from rudder.integrations import dgl_routes
from rudder.integrations.dgl_routes import choose, differ, parse_ladder
from rudder.serve import connector


def rows(*values: int) -> np.ndarray:
    return np.repeat(np.array(values, dtype=np.uint8)[:, None], 4, axis=1)


def no_pull() -> np.ndarray:
    raise AssertionError("equal rows need no second pull")


def test_equal_rows_need_no_second_pull() -> None:
    assert not differ(rows(1, 2, 3), rows(1, 2, 3), no_pull)


def test_a_row_that_nobody_wrote_and_that_is_wrong_condemns() -> None:
    assert differ(rows(1, 9, 3), rows(1, 2, 3), lambda: rows(1, 2, 3))
    assert differ(rows(7, 9, 3), rows(1, 2, 3), lambda: rows(7, 2, 3))


def test_rows_written_meanwhile_say_nothing() -> None:
    assert not differ(rows(1, 7, 3), rows(1, 2, 3), lambda: rows(1, 7, 3))
    # Fetched between two writes: neither pull saw this value.
    assert not differ(rows(1, 6, 3), rows(1, 2, 3), lambda: rows(1, 7, 3))


TABLE = np.arange(4000, dtype=np.int64).reshape(1000, 4)


class Served(LoopbackTransport):
    """Plays the ucx transport to partition 1 of TABLE."""

    def __init__(self, rows: np.ndarray) -> None:
        super().__init__()
        self.expose(1, 0, np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1))
        self.no_gets, self.by_gets = "UCX finds no RDMA device", False
        self.delays = {True: 0.0, False: 0.0}  # by gets, by requests
        self.entered: list[list[int]] = []

    def why_no_gets(self, part: int, table: int) -> str:
        assert (part, table) == (1, 0)
        return self.no_gets

    def use_gets(self, part: int, table: int, on: bool) -> None:
        assert not self.no_gets
        self.by_gets = on
        self.inject(delay_s=self.delays[on])


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> ArraySource:
    """Outside of a launched job: no peer's shared memory can be opened."""
    monkeypatch.delenv("RUDDER_JOB", raising=False)
    monkeypatch.setattr(dgl_routes, "_TOO_SLOW", 1e9)  # a pull from memory is quicker than any transport
    return ArraySource(TABLE, [0, 600, 1000])


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    transport = Served(TABLE[600:])

    def opened(part: int, table: int, name: str, rows: int, row_bytes: int) -> None:
        assert (part, table, name, rows, row_bytes) == (1, 0, "key", 400, 32)

    servers = types.SimpleNamespace(open=opened, enter=transport.entered.append, transport=transport)
    monkeypatch.setattr(connector, "shared", lambda own: servers)
    return transport


def names(routes: list, served: Served) -> list[str]:
    assert routes[0] == []
    return ["ucx" if route is served else route.name for route in routes[1]]


def test_feature_servers_come_before_the_stock_pull(source: ArraySource, served: Served, caplog) -> None:
    caplog.set_level(logging.INFO)
    assert names(choose(source, 0, "key", None), served) == ["ucx", "kvstore"]
    assert "partition 1 by ucx from this process (shm: its shared memory cannot be opened" in caplog.text
    assert "from here; ucx: same rows as the stock pull" in caplog.text
    assert "one-sided gets off: UCX finds no RDMA device; kvstore: " in caplog.text


@pytest.mark.parametrize("quicker", [True, False])
def test_one_sided_gets_are_used_where_they_are_quicker(
    source: ArraySource, served: Served, caplog, quicker: bool
) -> None:
    caplog.set_level(logging.INFO)
    served.no_gets, served.delays = "", {quicker: 0.0, not quicker: 0.05}
    served.inject(delay_s=served.delays[False])
    assert names(choose(source, 0, "key", None), served) == ["ucx", "kvstore"]
    assert served.by_gets == quicker
    assert f"one-sided gets {'on' if quicker else 'off'}: " in caplog.text


def test_one_sided_gets_that_fail_are_not_used(source: ArraySource, served: Served, caplog) -> None:
    caplog.set_level(logging.INFO)
    served.no_gets = ""
    stock = served.use_gets

    def broken(part: int, table: int, on: bool) -> None:
        stock(part, table, on)
        served.inject(fail="no such key" if on else "")

    served.use_gets = broken
    assert names(choose(source, 0, "key", None), served) == ["ucx", "kvstore"]
    assert not served.by_gets
    assert "no such key" in caplog.text


def test_one_that_is_much_slower_is_not_used(
    source: ArraySource, served: Served, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(dgl_routes, "_TOO_SLOW", 2.0)
    served.inject(delay_s=0.05)
    assert names(choose(source, 0, "key", None), served) == ["kvstore"]
    assert "more than 2 times the stock pull's time" in caplog.text
    # Whoever asks for it gets it.
    assert names(choose(source, 0, "key", ("ucx",)), served) == ["ucx"]


def test_one_with_other_rows_is_not_used(
    source: ArraySource, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = {name: lambda *args: None for name in ("open", "enter")}
    wrong = types.SimpleNamespace(transport=Served(TABLE[:400]), **nothing)
    monkeypatch.setattr(connector, "shared", lambda own: wrong)
    assert names(choose(source, 0, "key", None), served) == ["kvstore"]
    with pytest.raises(TransportError, match="partition 1 cannot be reached by ucx: its rows differ"):
        choose(source, 0, "key", ("ucx",))


def test_the_feature_servers_are_entered_together(source: ArraySource, served: Served) -> None:
    thirds = ArraySource(TABLE, [0, 300, 600, 600, 1000], local_part=0)
    for ladder, entered in ((None, [[1, 3]]), (("kvstore", "ucx"), [[1, 3]]), (("kvstore",), [])):
        served.entered.clear()
        with contextlib.suppress(AssertionError):  # it serves one of them only
            choose(thirds, 0, "key", ladder)
        assert served.entered == entered


def test_those_whose_shared_memory_is_here_are_not_entered(
    source: ArraySource, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dgl_routes.dgl_hosts, "local_hosts", lambda: [0, 1])
    monkeypatch.setattr(dgl_routes.dgl_hosts, "kvdata_segment", lambda part, key: "rudder-test-absent")
    choose(source, 0, "key", None)
    assert served.entered == []
    choose(source, 0, "key", ("ucx",))
    assert served.entered == [[1]]


def test_a_ladder_is_followed_as_it_is_given(source: ArraySource, served: Served) -> None:
    for ladder in (("ucx", "kvstore"), ("kvstore", "ucx"), ("kvstore",)):
        assert names(choose(source, 0, "key", ladder), served) == list(ladder)
    assert names(choose(source, 0, "key", ("shm", "kvstore")), served) == ["kvstore"]
    with pytest.raises(TransportError, match="cannot be opened from here"):
        choose(source, 0, "key", ("shm",))


def test_without_feature_servers_the_reason_is_given(
    source: ArraySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUDDER_FEATURE_SERVERS", raising=False)
    monkeypatch.setattr(connector, "_shared", None)
    with pytest.raises(TransportError, match="ucx: no feature servers run"):
        choose(source, 0, "key", ("ucx",))


def test_ladders() -> None:
    assert parse_ladder(None) is None
    assert parse_ladder("ucx") == ("ucx",)
    assert parse_ladder("ucx, kvstore") == ("ucx", "kvstore")
    for wrong in ("", "pigeon", "ucx,", "ucx,ucx", "kvstore;ucx"):
        with pytest.raises(ConfigError, match="use shm, ucx, kvstore"):
            parse_ladder(wrong)
