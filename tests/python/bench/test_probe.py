"""The compiled driver, as Python sees it."""

from __future__ import annotations

import numpy as np
import pytest

from rudder.bench.plain import PlainGather
from rudder.bench.rows import fill
from rudder.errors import ConfigError, DeadlineError, TransportError

_core = pytest.importorskip("rudder._core")


@pytest.fixture
def tables() -> list[np.ndarray]:
    return [fill(np.empty((500, 40), dtype=np.uint8), 1, peer) for peer in (1, 2, 3)]


@pytest.fixture
def loopback(tables):
    transport = _core.LoopbackTransport()
    for peer, table in enumerate(tables, 1):
        transport.expose(peer, 7, table)
    return transport


@pytest.mark.parametrize("in_flight", [1, 4])
@pytest.mark.parametrize("peers", [1, 2, 3])
def test_rows_of_all_peers_come_and_every_request_is_timed(tables, loopback, in_flight, peers):
    probe = _core.TransportProbe(loopback, table=7, row_bytes=40, peers=list(range(1, peers + 1)))
    rows = np.random.default_rng(0).integers(0, 500, size=(20, 11))
    out = np.zeros((220, 40), dtype=np.uint8)
    seconds, latencies = probe.run(rows, out, in_flight)
    assert PlainGather(tables).same(rows, out, peers)
    assert latencies.shape == (20,)
    assert latencies.min() > 0
    assert latencies.max() <= seconds * 1e9


def test_what_cannot_be_reached_is_refused(loopback):
    with pytest.raises(ConfigError, match="loopback"):
        _core.TransportProbe(loopback, table=8, row_bytes=40, peers=[1])
    probe = _core.TransportProbe(loopback, table=7, row_bytes=40, peers=[1])
    with pytest.raises(ConfigError):
        probe.run(np.zeros(4, np.int64), np.zeros((4, 40), np.uint8))
    with pytest.raises(ConfigError):
        probe.run(np.zeros((1, 4), np.int64), np.zeros((3, 40), np.uint8))


def test_failures_and_stalls_are_typed(loopback):
    probe = _core.TransportProbe(loopback, table=7, row_bytes=40, peers=[2], deadline_s=0.05)
    rows, out = np.zeros((4, 5), np.int64), np.zeros((20, 40), np.uint8)
    loopback.inject(fail="cable pulled", after=1)
    with pytest.raises(TransportError, match="cable pulled"):
        probe.run(rows, out, 2)
    loopback.inject(stall=True)
    with pytest.raises(DeadlineError):
        probe.run(rows, out, 2)
    loopback.inject()
    probe.run(rows, out, 2)
