"""The latency that the shadow models with is that of the peer that is farthest away."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from rudder import ArraySource, Options, Plan, Prefetcher
from rudder._core import CallbackTransport, LoopbackTransport, Transport
from rudder.shadow import latency
from rudder.shadow.latency import ASSUMED_S, first_row_seconds

ROWS = np.arange(4000, dtype=np.float32).reshape(1000, 4)
STARTS = np.array([0, 400, 700, 700, 1000])
FAR_S, NEAR_S = 0.03, 0.004


def peers(*far: int, broken: Sequence[int] = ()) -> list[list[LoopbackTransport]]:
    """A transport to each peer of partition 0; the first peer named is the farthest."""
    found: list[list[LoopbackTransport]] = [[]]
    for peer in range(1, 4):
        transport = LoopbackTransport()
        transport.expose(peer, 0, ROWS[STARTS[peer] : STARTS[peer + 1]].view(np.uint8))
        if peer in broken:
            transport.inject(fail="it is away")
        elif peer in far:
            transport.inject(delay_s=FAR_S if peer == far[0] else NEAR_S)
        found.append([transport])
    return found


def measured(routes: Sequence[Sequence[Transport]]) -> float | None:
    return first_row_seconds(routes, table=0, part_starts=STARTS, row_bytes=16)


@pytest.mark.parametrize("far", [(1, 3), (3, 1)])
def test_the_farthest_peer_counts(far: tuple[int, ...]) -> None:
    seconds = measured(peers(*far))
    assert seconds is not None
    assert seconds >= FAR_S


def test_a_peer_without_rows_is_not_asked() -> None:
    assert measured(peers(broken=(2,))) is not None


def test_peers_that_fail_are_left_out() -> None:
    seconds = measured(peers(1, broken=(3,)))
    assert seconds is not None
    assert seconds >= FAR_S
    assert measured(peers(broken=(1, 3))) is None


def test_all_peers_are_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "_DEADLINE_S", 20.0)
    asked = threading.Barrier(3)

    def pull(table: int, parts: np.ndarray, rows: np.ndarray) -> np.ndarray:
        asked.wait(20.0)  # breaks where the others are not asked meanwhile
        return np.zeros((len(rows), 16), dtype=np.uint8)

    starts = np.array([0, 100, 200, 300, 400])
    routes: list[list[Transport]] = [[], *([CallbackTransport("kvstore", pull)] for _ in range(3))]
    assert first_row_seconds(routes, table=0, part_starts=starts, row_bytes=16) is not None
    assert not asked.broken


def test_peers_of_one_transport_are_asked_as_a_minibatch_asks_them() -> None:
    calls: list[list[int]] = []

    def pull(table: int, parts: np.ndarray, rows: np.ndarray) -> np.ndarray:
        calls.append(parts.tolist())
        if 3 in parts and 3 in away:
            raise RuntimeError("it is away")
        return np.zeros((len(rows), 16), dtype=np.uint8)

    away: set[int] = set()
    kvstore = CallbackTransport("kvstore", pull)
    routes: list[list[Transport]] = [[], [kvstore], [kvstore], [kvstore]]
    assert measured(routes) is not None
    assert calls == [[1, 3]] * len(calls)
    calls.clear()
    away.add(3)
    assert measured(routes) is not None  # of the one that is there
    assert calls[0] == [1, 3]
    assert [1] in calls


def test_a_peer_that_falls_silent_has_answered_once() -> None:
    routes = peers(1, 3)
    assert measured([[], routes[1], [], []]) is not None
    quiet = peers()[1][0]
    quiet.inject(stall=True, after=1)
    assert measured([[], [quiet], [], []]) is not None


class Far(ArraySource):
    """Its rows come from afar."""

    def routes(self, table: int) -> list[list[LoopbackTransport]]:
        transport = LoopbackTransport()
        transport.expose(1, table, self.bytes[500:])
        transport.inject(delay_s=FAR_S)
        return [[], [transport]]


def latency_of(controller: str, source: ArraySource) -> float | None:
    options = Options(controller=controller, plan=Plan(interval=4), prior="none")
    with Prefetcher(source, options) as table:
        live = table._planner._shadow
        assert table.metrics().rows_moved == 0  # asking peers is no part of the run
        return None if live is None or live._shadow is None else live._shadow.latency


def test_a_steered_run_measures_it() -> None:
    far, near = Far(ROWS, [0, 500, 1000]), ArraySource(ROWS, [0, 500, 1000])
    seconds = latency_of("shadow", far)
    assert seconds is not None
    assert seconds >= FAR_S
    nearby = latency_of("shadow", near)
    assert nearby is not None
    assert nearby != ASSUMED_S
    assert nearby < seconds
    assert latency_of("default", far) is None  # nobody would use it
