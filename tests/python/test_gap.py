"""The gap meter against the exact figure of the full trace, and in a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rudder import ArraySource, Evidence, Options, Plan, Prefetcher
from rudder._core import offline_optimum
from rudder.gap import GapMeter
from rudder.metrics import total

Ids = NDArray[np.int64]
Trace = tuple[Ids, Ids]

# What the docstrings promise of the default size of sample.
PROMISE = 0.05
# What docs/replay.md says where every id is in the sample: of any interval, and of the whole run.
WORST, WHOLE = 0.07, 0.005
TRACES = (
    "arxiv_4parts_f10-25",
    "arxiv_8parts_f10-25_sparse",
    "cnr_8parts_f10-25",
    "rmat_4parts_f10-25",
    "twitter_4parts_f10-25",
)


def zipf_trace(minibatches: int = 256, rows: int = 200_000, wanted: int = 2500, seed: int = 0) -> Trace:
    """Rows by a power law, numbered in random order, each once a minibatch."""
    rng = np.random.default_rng(seed)
    name = rng.permutation(rows)
    chances = 1 / np.arange(1, rows + 1) ** 0.8
    steps = np.cumsum(chances) / chances.sum()
    batches = [np.unique(name[np.searchsorted(steps, rng.random(wanted))]) for _ in range(minibatches)]
    offsets = np.concatenate(([0], np.cumsum([len(batch) for batch in batches])))
    return np.concatenate(batches).astype(np.int64), offsets.astype(np.int64)


def exact(trace: Trace, ends: list[int], capacity: int) -> NDArray[np.float64]:
    """What MIN moves in each interval, from the full trace."""
    ids, offsets = trace
    upto = [offline_optimum(ids[: offsets[end]], offsets[: end + 1], capacity) for end in ends]
    return np.diff([0, *upto]).astype(np.float64)


def metered(
    trace: Trace, ends: list[int], capacity: int, interval: int
) -> tuple[GapMeter, NDArray[np.float64]]:
    """Figures of the meter, and their errors, float64 [intervals, 2]."""
    ids, offsets = trace
    meter = GapMeter((0, 0))
    figures = []
    begin = 0
    for number, end in enumerate(ends):
        for seq in range(begin, end):
            meter.submitted(seq + 1, ids[offsets[seq] : offsets[seq + 1]], interval)
        wanted = int(offsets[end] - offsets[begin])
        gap = meter.end_interval(
            number,
            executed=end,
            capacity_rows=capacity,
            rows_requested=wanted,
            rows_moved=0,
            seconds=1e6,
        )
        begin = end
        assert gap is not None
        assert gap.interval == number
        figures.append((gap.min_rows, gap.error))
    meter.finish(len(ends) - 1)
    return meter, np.array(figures)


def cuts(minibatches: int, interval: int) -> list[int]:
    return list(range(interval, minibatches + 1, interval))


def check(trace: Trace, capacity: int, interval: int) -> tuple[float, float]:
    """Assert the promise; returns the rate, and the share of intervals within three standard errors."""
    ends = cuts(len(trace[1]) - 1, interval)
    meter, figures = metered(trace, ends, capacity, interval)
    wanted = exact(trace, ends, capacity)
    off = np.abs(figures[:, 0] - wanted)
    whole = meter.whole()
    assert whole is not None
    if meter.rate == 1:
        assert not figures[:, 1].any()
        assert np.max(off / wanted) < WORST
        assert abs(whole.min_rows / wanted.sum() - 1) < WHOLE
        return meter.rate, 1.0
    assert np.mean(off / wanted) < PROMISE
    assert abs(whole.min_rows / wanted.sum() - 1) < PROMISE
    return meter.rate, float(np.mean(off <= 3 * figures[:, 1]))


@pytest.mark.parametrize("capacity", [2_000, 10_000, 40_000])
@pytest.mark.parametrize("interval", [16, 64])
def test_min_of_an_interval_is_within_the_promise(capacity: int, interval: int) -> None:
    rate, within = check(zipf_trace(), capacity, interval)
    assert rate < 1
    assert within >= 0.75, "the stated error is too small"


@pytest.mark.parametrize("fraction", [0.05, 0.10, 0.25, 0.50])
@pytest.mark.parametrize("name", TRACES)
def test_recorded_traces_are_within_the_promise(
    name: str, fraction: float, shared: Callable[[str], Path]
) -> None:
    with np.load(shared(f"traces/{name}.npz")) as file:
        trace = (file["nodes"][file["ids"]].astype(np.int64), file["offsets"].astype(np.int64))
        capacity = int(fraction * int(file["num_halo"]))
    for interval in (32, 128):
        _, within = check(trace, capacity, interval)
        assert within >= 0.75, "the stated error is too small"


def test_a_small_job_is_counted_exactly() -> None:
    trace = zipf_trace(minibatches=48, rows=2000, wanted=120)
    ends = cuts(48, 16)
    meter, figures = metered(trace, ends, capacity=300, interval=16)
    assert meter.rate == 1
    assert figures[:, 0].tolist() == exact(trace, ends, 300).tolist()
    assert not figures[:, 1].any()


def test_a_read_counts_before_the_minibatches_that_wait() -> None:
    meter = GapMeter((0, 0))
    for seq, ids in ((1, [1]), (2, [2])):
        meter.submitted(seq, np.array(ids), 4)
    meter.taken(1)
    meter.read(np.array([2]), 4)  # minibatch 2 finds the row that was read
    gap = meter.end_interval(0, executed=2, capacity_rows=1, rows_requested=3, rows_moved=4, seconds=1e6)
    assert gap is not None
    assert (gap.min_rows, gap.fields()["times_min"]) == (2, 2.0)
    meter.finish(0)


def test_dropped_minibatches_do_not_count() -> None:
    meter = GapMeter((0, 0))
    for seq in (1, 2, 3):
        meter.submitted(seq, np.array([seq]), 4)
    meter.taken(1)
    meter.dropped(1)
    meter.submitted(4, np.array([7, 8]), 4)
    gap = meter.end_interval(0, executed=2, capacity_rows=9, rows_requested=3, rows_moved=3, seconds=1e6)
    assert gap is not None
    assert gap.min_rows == 3
    meter.finish(0)


class Keep:
    """The default one may change the buffer by how long the run waited."""

    def decide(self, evidence: Evidence) -> Plan:
        return evidence.plan


def run(folder: Path, **options: object) -> tuple[list[list[int]], dict[str, object]]:
    """A job of 40 minibatches; its remote ids, and the totals on disk."""
    rows = np.arange(8000, dtype=np.float32).reshape(2000, 4)
    rng = np.random.default_rng(3)
    batches = [rng.integers(0, 2000, 100) for _ in range(40)]
    settings = Options(
        capacity=200,
        prior="none",
        plan=Plan(interval=8),
        controller=Keep(),
        metrics_dir=folder,
        **options,  # type: ignore[arg-type]
    )
    with Prefetcher(ArraySource(rows, [0, 500, 2000]), settings) as table:
        # Not by iterate(), which begins the next epoch before this one is over.
        for ids in batches:
            table.announce(table.submit(ids))
            assert (table[ids] == rows[ids]).all()
        table[np.arange(600, 650)]
    batches.append(np.arange(600, 650))
    summary = json.loads((folder / "summary.json").read_text())
    return [np.unique(ids[ids >= 500]).tolist() for ids in batches], summary["total"]


def test_a_run_reports_its_distance_to_min(tmp_path: Path) -> None:
    wanted, totals = run(tmp_path)
    offsets = np.concatenate(([0], np.cumsum([len(ids) for ids in wanted]))).astype(np.int64)
    best = offline_optimum(np.concatenate(wanted).astype(np.int64), offsets, 200)
    assert totals["min_rows"] == best
    assert totals["times_min"] == pytest.approx(totals["rows_moved"] / best, abs=1e-6)  # type: ignore[operator]
    assert totals["times_min_error"] == 0
    lines = [json.loads(line) for line in next(tmp_path.glob("rank-0.*.jsonl")).open()]
    assert lines[-1]["kind"] == "end"
    assert lines[-1]["min_rows"] == best


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    _, totals = run(tmp_path, gap_meter=False)
    assert totals["times_min"] is None
    assert totals["rows_moved"]


def test_an_error_in_it_is_logged_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("rudder.gap_sample._min_since", fail)
    _, totals = run(tmp_path)
    assert totals["times_min"] is None
    assert [record.getMessage() for record in caplog.records] == ["the distance to MIN is no longer measured"]


def test_distances_of_several_buffers_are_weighed_by_their_rows() -> None:
    one = {"times_min": 1.0, "times_min_error": 0.0, "min_rows": 300}
    other = {"times_min": 2.0, "times_min_error": 0.4, "min_rows": 100}
    both = total([one, other, {"times_min": None}])
    assert (both["times_min"], both["times_min_error"], both["min_rows"]) == (1.25, 0.1, 400)
