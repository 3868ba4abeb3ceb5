"""The latency that the shadow models with is that of the peer that is farthest away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from rudder import ArraySource, Options, Plan, Prefetcher
from rudder._core import LoopbackTransport
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


def measured(routes: list[list[LoopbackTransport]]) -> float | None:
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
