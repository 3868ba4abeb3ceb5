"""Modelled time against cases worked out by hand."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rudder.shadow.feed import Feed
from rudder.shadow.pipeline import Pipeline

NONE = np.empty(0, dtype=np.int64)
WIDE = 1e18


class Fixed:
    """Every minibatch moves so many rows; remembers what the window held."""

    def __init__(self, moved: float) -> None:
        self.moved, self.foreseen, self.ahead = moved, 0, list[int]()

    def foresee(self, minibatch: int) -> None:
        assert minibatch == self.foreseen, "in order, each once"
        self.foreseen += 1

    def execute(self, minibatch: int) -> float:
        assert minibatch < self.foreseen
        self.ahead.append(self.foreseen - minibatch - 1)
        return self.moved


def feed(
    minibatches: int,
    *,
    sampling: float = 0.0,
    compute: float = 0.0,
    row: float = 0.0,
    latency: float = 0.0,
    requests: float = 10,
    block_bytes: float = 1,
) -> Feed:
    some = Feed()
    for _ in range(minibatches):
        some.append(
            NONE,
            requests=requests,
            sampling=sampling,
            block_bytes=block_bytes,
            compute=compute,
            row_seconds=row,
            latency=latency,
        )
    return some


def run(
    some: Feed, moved: float, depth: int = 2, window: float = WIDE, waiting: float = WIDE
) -> tuple[Pipeline, Fixed]:
    pipeline, rows = Pipeline(depth, window, waiting), Fixed(moved)
    pipeline.run(some, rows, some.end)
    return pipeline, rows


def test_compute_bound_takes_as_long_as_computing() -> None:
    # Only the first minibatch waits: 1 to be sampled, 0.5 for 5 rows, 0.25 latency.
    pipeline, _ = run(feed(100, sampling=1, compute=3, row=0.1, latency=0.25), moved=5)
    assert pipeline.clock == pytest.approx(1 + 0.5 + 0.25 + 300)
    assert pipeline.stalled_sampling == pytest.approx(1)
    assert pipeline.stalled_fetching == pytest.approx(0.75)
    assert pipeline.fetching == pytest.approx(100 * 0.75)


def test_fetch_bound_takes_bytes_over_bandwidth() -> None:
    pipeline, _ = run(feed(100, compute=1, row=0.5), moved=8)
    assert pipeline.clock == pytest.approx(100 * 4 + 1)  # the last one's computing comes after its rows
    assert pipeline.fetching == pytest.approx(400)


def test_sampling_bound_takes_as_long_as_sampling() -> None:
    pipeline, rows = run(feed(50, sampling=2, compute=1, row=0.1), moved=1)
    assert pipeline.clock == pytest.approx(50 * 2 + 0.1 + 1)
    assert pipeline.stalled_fetching == pytest.approx(50 * 0.1)
    assert max(rows.ahead) == 0  # nothing is ever sampled ahead


def test_without_depth_fetching_follows_computing() -> None:
    pipeline, _ = run(feed(20, compute=1, row=0.5, latency=0.25), moved=2, depth=0)
    assert pipeline.clock == pytest.approx(20 * (1 + 1 + 0.25))


@pytest.mark.parametrize(("depth", "seconds"), [(1, 4.0), (2, 2.0), (4, 1.0), (8, 1.0)])
def test_depth_hides_latency(depth: int, seconds: float) -> None:
    # 4 s of latency, 1 s of computing: a fetch begins `depth` minibatches before its turn.
    pipeline, _ = run(feed(200, compute=1, row=1e-9, latency=4), moved=1, depth=depth)
    assert pipeline.clock / 200 == pytest.approx(seconds, rel=0.05)


def test_the_window_stops_the_sampler() -> None:
    # 10 requests a minibatch, sampled at once: three wait beside the one decided on (30 are not below 30).
    _, rows = run(feed(60, compute=1), moved=0, depth=1, window=30)
    assert set(rows.ahead[2:50]) == {2}
    _, rows = run(feed(60, compute=1), moved=0, depth=4, window=0)
    assert max(rows.ahead) <= 4  # a pipeline is filled even where the window wants nothing


def test_waiting_blocks_stop_the_sampler() -> None:
    _, rows = run(feed(60, compute=1, block_bytes=100), moved=0, depth=1, waiting=500)
    _, wide = run(feed(60, compute=1, block_bytes=100), moved=0, depth=1)
    assert max(rows.ahead) <= 5 < max(wide.ahead)
    _, one = run(feed(60, compute=1, block_bytes=100), moved=0, depth=1, waiting=1)
    assert one.foreseen == 60  # one may always wait


def test_a_wider_window_opens_when_it_is_steered_not_before() -> None:
    some = feed(400, sampling=0.25, compute=1)
    pipeline, rows = Pipeline(1, 20, WIDE), Fixed(0)
    pipeline.run(some, rows, 100)
    pipeline.steer(some, 1, 200, WIDE)
    pipeline.run(some, rows, 200)
    # It gains three minibatches a step from step 100 on.
    assert max(rows.ahead[:101]) <= 2
    assert rows.ahead[102] <= 10
    assert rows.ahead[150] == 19
    assert pipeline.clock == pytest.approx(200.25)


def test_depth_steered_under_way() -> None:
    some = feed(400, compute=1, row=1e-9, latency=4)
    pipeline, rows = Pipeline(1, WIDE, WIDE), Fixed(1)
    pipeline.run(some, rows, 100)
    slow = pipeline.clock
    pipeline.steer(some, 4, WIDE, WIDE)
    pipeline.run(some, rows, 200)
    assert slow == pytest.approx(400, rel=0.02)
    assert pipeline.clock - slow == pytest.approx(100, rel=0.06)


def test_a_pause_is_the_trainers_alone() -> None:
    pipeline, rows = Pipeline(2, WIDE, WIDE), Fixed(8)
    some = feed(100, compute=1, row=0.25)  # 2 s of fetching a minibatch
    pipeline.run(some, rows, 50)
    before = pipeline.clock
    pipeline.pause(2.0)
    pipeline.run(some, rows, 51)
    assert pipeline.clock - before < 2.0 + 2.0 + 1.0  # rows went on arriving meanwhile


def test_a_clone_goes_on_alone() -> None:
    some = feed(900, sampling=0.5, compute=1, row=0.1, latency=0.5)
    pipeline, rows = Pipeline(2, 50, WIDE), Fixed(5)
    pipeline.run(some, rows, 700)  # long enough that old times are forgotten
    other = pipeline.clone()
    beside = Fixed(500)
    beside.foreseen = rows.foreseen
    other.run(some, beside, 900)
    pipeline.run(some, rows, 900)
    whole, _ = run(some, 5, 2, 50)
    assert pipeline.clock == pytest.approx(whole.clock)
    assert other.clock > pipeline.clock


@given(
    sampling=st.floats(0, 3),
    compute=st.floats(0, 3),
    row=st.floats(0, 0.5),
    latency=st.floats(0, 5),
    moved=st.integers(0, 10),
    depth=st.integers(1, 6),
    window=st.integers(0, 80),
    waiting=st.integers(1, 20),
)
@settings(max_examples=150, deadline=None)
def test_no_stage_is_faster_than_itself_and_more_never_hurts(
    sampling: float,
    compute: float,
    row: float,
    latency: float,
    moved: int,
    depth: int,
    window: int,
    waiting: int,
) -> None:
    some = feed(60, sampling=sampling, compute=compute, row=row, latency=latency)
    pipeline, _ = run(some, moved, depth, window, waiting)
    slowest = 60 * max(sampling, compute, moved * row)
    assert pipeline.clock >= slowest - 1e-6
    assert pipeline.clock <= 60 * (sampling + compute + moved * row + latency) + 1e-6
    for better in (
        run(some, moved, depth + 1, window, waiting),
        run(some, moved, depth, window + 20, waiting + 5),
    ):
        assert better[0].clock <= pipeline.clock + 1e-6


def test_forgotten_minibatches_are_not_needed() -> None:
    some = feed(600, sampling=0.5, compute=1, row=0.1, latency=0.5)
    pipeline, rows = Pipeline(2, 50, 7), Fixed(5)
    for end in range(20, 601, 20):
        pipeline.run(some, rows, end)
        some.forget(end - 400)
    whole, _ = run(feed(600, sampling=0.5, compute=1, row=0.1, latency=0.5), 5, 2, 50, 7)
    assert pipeline.clock == pytest.approx(whole.clock)


def test_thousands_of_minibatches_take_milliseconds() -> None:
    some = feed(5000, sampling=0.5, compute=1, row=0.1)
    spent = []
    for _ in range(3):
        began = time.perf_counter()
        run(some, 5, 2, 400)
        spent.append(time.perf_counter() - began)
    assert min(spent) < 0.5  # 15-40 ms here; another's load must not fail it
