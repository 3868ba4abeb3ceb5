"""The engine over arrays: any dtype and shape, any ids, writes, verification, metrics."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rudder import ArraySource, FeatureSource, Options, Plan, Prefetcher
from rudder.errors import ClosedError, ConfigError, IdError, TransportError, VerifyError
from rudder.source import Ids, as_rows

STARTS = [0, 300, 700, 1000]
DTYPES = ["float32", "float64", "float16", "int8", "uint8", "bool", "int64", "complex64"]


def table_of(dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    rng = np.random.default_rng(3)
    return (rng.standard_normal((1000, *shape)) * 50).astype(dtype)


def open_table(rows: NDArray[Any], **options: Any) -> Prefetcher:
    return Prefetcher(ArraySource(rows, STARTS, 1), Options(**{"prior": "none", **options}))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (7,), (2, 3)])
def test_any_dtype_and_row_shape(dtype: str, shape: tuple[int, ...]) -> None:
    rows = table_of(dtype, shape)
    rng = np.random.default_rng(4)
    with open_table(rows) as table:
        for ids in table.iterate([rng.integers(0, 1000, 60) for _ in range(10)]):
            got = table[ids]
            assert got.dtype == rows.dtype
            assert got.shape == (60, *shape)
            assert got.tobytes() == rows[ids].tobytes()


@pytest.mark.parametrize("ids", [[], [5], [5, 5, 999, 0], np.array([700, 299], dtype=np.int32), range(10)])
def test_ids_without_a_minibatch_are_read_now(ids: Any) -> None:
    rows = table_of("float32", (4,))
    with open_table(rows) as table:
        assert np.array_equal(table[ids], rows[list(ids)])


@pytest.mark.parametrize("ids", [[1000], [-1], [0, 5000], [1.5], ["a"], [[1, 2]], np.array([True, False])])
def test_what_is_no_id_of_the_table_is_refused(ids: Any) -> None:
    with open_table(table_of("float32", (4,))) as table, pytest.raises(IdError):
        table[ids]


def test_rows_are_moved_once_and_then_found() -> None:
    rows = table_of("float32", (4,))
    ids = np.arange(0, 1000, 3)
    with open_table(rows, capacity=1.0) as table:
        for _ in table.iterate([ids] * 8):
            table[ids]
        total = table.metrics()
    remote = int(((ids < 300) | (ids >= 700)).sum())
    assert total.rows_moved == remote
    assert total.rows_requested >= 8 * remote
    assert total.rows_saved == total.rows_requested - total.rows_moved
    # Beside the rows: what each slot holds, tens of bytes.
    assert 30 * total.capacity_rows < total.overhead_bytes < 100 * total.capacity_rows


def test_written_rows_are_seen_after_invalidation() -> None:
    rows = table_of("float32", (4,))
    minibatches = [np.arange(0, 1000, 5)] * 6
    with open_table(rows, capacity=1.0) as table:
        for number, ids in enumerate(table.iterate(minibatches, epochs=1)):
            assert np.array_equal(table[ids], rows[ids])
            rows[ids[number]] += 1
            rows[ids[-number - 1]] += 1
            table.invalidate([ids[number]])
            table.invalidate()


def test_a_minibatch_may_ask_in_parts() -> None:
    rows = table_of("int16", (3,))
    first, second, empty = np.arange(0, 900, 2), np.arange(1, 300), np.empty(0, dtype=np.int64)
    with open_table(rows) as table:
        minibatch = table.submit(first, empty, second)
        table.announce(minibatch)
        for ids in (second, first, second, empty):
            assert np.array_equal(table[ids], rows[ids])
        assert table.metrics().rows_read_unplanned == 0


def test_a_trainer_may_draw_one_minibatch_ahead() -> None:
    rows = table_of("float32", (4,))
    rng = np.random.default_rng(5)
    batches = [rng.integers(0, 1000, 60) for _ in range(12)]
    with open_table(rows) as table:
        earlier = None
        for ids in table.iterate(batches, epochs=1):
            if earlier is not None:
                assert np.array_equal(table[earlier], rows[earlier])
            earlier = ids
        assert table.metrics().rows_read_unplanned == 0


def test_rows_that_nobody_asks_for_do_not_stop_the_window() -> None:
    rng = np.random.default_rng(6)
    batches = [rng.integers(0, 1000, 60) for _ in range(30)]
    with open_table(table_of("float32", (4,))) as table:
        assert len(list(table.iterate(batches))) == 30


class Lying(ArraySource):
    """Its stock pull differs from its rows in one place."""

    def pull(self, ids: Ids) -> NDArray[np.uint8]:
        rows = super().pull(ids).copy()
        rows[ids == 800] ^= 1
        return rows


def test_verification_finds_the_row_that_differs() -> None:
    rows = table_of("float32", (4,))
    ids = np.array([1, 800, 500])
    with Prefetcher(Lying(rows, STARTS, 1), Options(verify=True, prior="none")) as table:
        assert np.array_equal(table[[1, 2]], rows[[1, 2]])
        with pytest.raises(VerifyError, match=r"1 of 3 rows.*800"):
            table[ids]
    with Prefetcher(Lying(rows, STARTS, 1), Options(verify="count", prior="none")) as table:
        table[ids]
        assert (table.metrics().verified_rows, table.metrics().differing_rows) == (3, 1)


class Pulled(FeatureSource):
    """A source that has nothing but `pull`."""

    def __init__(self, rows: NDArray[Any]) -> None:
        self.name, self.rows = "pulled", rows
        self.row_shape, self.dtype = rows.shape[1:], rows.dtype
        self.bytes = as_rows(rows)
        self.row_bytes = self.bytes.shape[1]
        self.part_starts = np.array(STARTS)
        self.local_part = 1
        self.local_rows = self.bytes[300:700]
        self.halo_rows = 600
        self.priors = {"degree": lambda: np.arange(1000, dtype=np.float32)}
        self.error: Exception | None = None

    def pull(self, ids: Ids) -> NDArray[np.uint8]:
        if self.error is not None:
            raise self.error
        return self.bytes[ids]


def test_a_source_needs_only_a_pull() -> None:
    rows = table_of("float32", (4,))
    rng = np.random.default_rng(7)
    with Prefetcher(Pulled(rows), Options(capacity=100)) as table:
        assert table.plan.prior == "degree"  # it has no VIP
        for ids in table.iterate([rng.integers(0, 1000, 60) for _ in range(20)]):
            assert np.array_equal(table[ids], rows[ids])


def test_a_pull_that_fails_is_the_minibatchs_error_and_names_the_partition() -> None:
    source = Pulled(table_of("float32", (4,)))
    with Prefetcher(source, Options(capacity=100, prior="none")) as table:
        assert np.array_equal(table[[1]], source.rows[[1]])
        source.error = OSError("the peer is gone")
        with pytest.raises(TransportError, match="the peer is gone") as caught:
            table[[900]]
        assert caught.value.part == 2
        assert table.metrics().to_json()["fetches_failed"] >= 1
        source.error = None
        assert np.array_equal(table[[900]], source.rows[[900]])


def test_memory_may_move_from_the_buffer_to_the_window_and_back() -> None:
    rows = table_of("float32", (4,))
    ids = np.arange(1000)
    with open_table(rows, capacity=400, plan=Plan(buffer_share=50)) as table:
        for number, _ in enumerate(table.iterate([ids] * 12)):
            assert np.array_equal(table[ids], rows[ids])
            if number == 4:
                assert table.metrics().capacity_rows == 200
                assert table.waiting_share == 200 * 16
                table.replan(buffer_share=100)
        assert table.metrics().capacity_rows == 400


@pytest.mark.parametrize("prior", ["frequency", "given", "none"])
def test_priors_by_name(prior: str) -> None:
    rows = table_of("float32", (4,))
    rng = np.random.default_rng(8)
    wanted: Any = np.arange(1000) if prior == "given" else prior
    with open_table(rows, prior=wanted, capacity=50, plan=Plan(interval=4, half_life=8)) as table:
        assert table.plan.prior == prior
        for ids in table.iterate([rng.integers(0, 1000, 60) for _ in range(30)]):
            assert np.array_equal(table[ids], rows[ids])
        assert table.metrics().refused_decisions == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"capacity": -1},
        {"policy": "best"},
        {"prior": "best"},
        {"prior": np.ones(5)},
        {"controller": "best"},
        {"deadline": 0},
        {"verify": "sometimes"},
        {"staging": "a lot"},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        open_table(table_of("float32", (4,)), **wrong)


def test_a_closed_table_says_so() -> None:
    table = open_table(table_of("float32", (4,)))
    table.close()
    table.close()
    with pytest.raises(ClosedError):
        table[[900]]
    with pytest.raises(ClosedError):
        table.submit(np.array([900]))


def test_metrics_on_disk_add_up(tmp_path: Path) -> None:
    rows = table_of("float32", (4,))
    rng = np.random.default_rng(9)
    with open_table(rows, metrics_dir=tmp_path, plan=Plan(interval=4), rank=3) as table:
        for ids in table.iterate([rng.integers(0, 1000, 60) for _ in range(22)], epochs=1):
            table[ids]
    lines = [json.loads(line) for line in (tmp_path / "rank-3.features.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["start"] + ["interval"] * 6 + ["end"]
    intervals, end = lines[1:-1], lines[-1]
    for name in ("minibatches", "rows_requested", "rows_hit", "rows_moved", "bytes_moved", "ids_requested"):
        assert sum(line[name] for line in intervals) == end[name]
    assert end["ids_requested"] == 22 * 60
    assert end["bytes_moved"] == end["rows_moved"] * 16
    assert end["seconds_wall"] == pytest.approx(
        end["seconds_stalled"] + end["seconds_gathering"] + end["seconds_training"], rel=0.01
    )
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["state"] == "finished"
    assert summary["total"]["rows_moved"] == end["rows_moved"]
    assert {"rows_refetched", "rows_wasted", "fetches_failed"} <= summary["total"].keys()


def test_reading_local_rows_is_copying_and_no_stall() -> None:
    rows = np.zeros((200_000, 64), dtype=np.float32)
    with Prefetcher(ArraySource(rows, [0, 199_999, 200_000]), Options(prior="none")) as table:
        for _ in range(3):
            table[np.arange(199_999)]
        total = table.metrics()
    assert total.seconds_gathering > 0
    assert total.seconds_stalled_fetching < 0.1 * total.seconds_gathering


def test_a_wait_for_rows_that_were_not_announced_is_a_stall() -> None:
    class Slow(Pulled):
        def pull(self, ids: Ids) -> NDArray[np.uint8]:
            asked.set()
            assert answer.wait(60)
            return super().pull(ids)

    asked, answer = threading.Event(), threading.Event()
    with Prefetcher(Slow(table_of("float32", (4,))), Options(capacity=100, prior="none")) as table:
        reader = threading.Thread(target=lambda: table[[900]])
        reader.start()
        assert asked.wait(60)
        began = time.perf_counter()
        held = time.perf_counter() - began
        answer.set()
        reader.join()
        total = table.metrics()
    assert total.seconds_stalled_fetching >= held > 0
