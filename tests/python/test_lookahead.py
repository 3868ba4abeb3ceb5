"""Sampling ahead: the same minibatches in the same order, whatever the trainer and the loader do."""

from __future__ import annotations

import gc
import threading
import traceback
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from rudder import ArraySource, Options, Plan, Prefetcher, PrefetchLoader
from rudder.errors import ClosedError, IdError
from rudder.lookahead import LOCAL_MINIBATCHES
from rudder.sampling import Prepared

ROWS = np.random.default_rng(0).standard_normal((1000, 4)).astype(np.float32)


class Sampler:
    """A loader that knows how far it has been run; epochs differ, and `fail_at` names a minibatch of each."""

    def __init__(self, minibatches: int, fail_at: int | None = None) -> None:
        self.minibatches, self.fail_at = minibatches, fail_at
        self.epochs = 0
        self.made = 0
        self.progress = threading.Condition()

    def __len__(self) -> int:
        return self.minibatches

    def ids(self, epoch: int, number: int) -> np.ndarray:
        return np.random.default_rng(epoch * 1000 + number).integers(0, 1000, 50)

    def __iter__(self) -> Iterator[tuple[int, int, np.ndarray]]:
        epoch, self.epochs = self.epochs, self.epochs + 1
        for number in range(self.minibatches):
            if number == self.fail_at:
                self.explode()
            with self.progress:
                self.made += 1
                self.progress.notify_all()
            yield epoch, number, self.ids(epoch, number)

    def explode(self) -> None:
        raise KeyError("inside the sampler")

    def wait_until_made(self, count: int) -> None:
        with self.progress:
            assert self.progress.wait_for(lambda: self.made >= count, timeout=20)


@pytest.fixture
def table() -> Iterator[Prefetcher]:
    with Prefetcher(ArraySource(ROWS, [0, 300, 1000]), Options(capacity=100, prior="none")) as opened:
        yield opened


def ids_of(item: tuple[int, int, np.ndarray]) -> np.ndarray:
    return item[2]


def train(table: Prefetcher, loader: Any, stop_at: int | None = None) -> list[tuple[int, int]]:
    """Run an epoch, check every row, and return which minibatches it had."""
    seen = []
    for epoch, number, ids in loader:
        assert np.array_equal(table[ids], ROWS[ids])
        seen.append((epoch, number))
        if number == stop_at:
            break
    return seen


def epoch_of(epoch: int, count: int) -> list[tuple[int, int]]:
    return [(epoch, number) for number in range(count)]


def test_epochs_come_whole_and_in_order(table: Prefetcher) -> None:
    with table.iterate(Sampler(13), ids_of) as loader:
        assert len(loader) == 13
        for epoch in range(4):
            assert train(table, loader) == epoch_of(epoch, 13)
    assert table.metrics().rows_read_unplanned == 0


def test_the_next_epoch_is_sampled_while_this_one_ends(table: Prefetcher) -> None:
    sampler = Sampler(6)
    with table.iterate(sampler, ids_of) as loader:
        epoch = iter(loader)
        for _ in range(4):
            table[ids_of(next(epoch))]
        sampler.wait_until_made(7)  # two are left of this epoch: the seventh is the next one's first
        assert [number for _, number, _ in epoch] == [4, 5]
        assert train(table, loader) == epoch_of(1, 6)


def test_no_more_epochs_are_sampled_than_promised(table: Prefetcher) -> None:
    sampler = Sampler(5)
    with table.iterate(sampler, ids_of, epochs=2) as loader:
        train(table, loader)
        train(table, loader)
        assert sampler.made == 10
        assert train(table, loader) == epoch_of(2, 5)  # but more may be asked for


@pytest.mark.parametrize("stop_at", [0, 3, 12])
def test_an_epoch_left_early_is_dropped_and_the_next_is_whole(table: Prefetcher, stop_at: int) -> None:
    with table.iterate(Sampler(13), ids_of) as loader:
        assert train(table, loader, stop_at) == epoch_of(0, stop_at + 1)
        seen = train(table, loader)
        assert [number for _, number in seen] == list(range(13))
        assert train(table, loader, stop_at)
        assert [number for _, number in train(table, loader)] == list(range(13))


def test_an_iterator_that_is_still_held_ends_when_the_next_epoch_begins(table: Prefetcher) -> None:
    with table.iterate(Sampler(5), ids_of) as loader:
        first = iter(loader)
        next(first)
        second = iter(loader)
        assert list(first) == []
        assert [number for _, number, _ in second] == list(range(5))


def test_what_the_loader_raises_comes_at_its_minibatch_with_its_traceback(table: Prefetcher) -> None:
    with table.iterate(Sampler(9, fail_at=4), ids_of) as loader:
        for epoch in range(3):
            seen: list[tuple[int, int]] = []
            with pytest.raises(KeyError, match="inside the sampler") as caught:
                seen.extend((each, number) for each, number, _ in loader)
            assert seen == epoch_of(epoch, 4)
            assert "explode" in "".join(traceback.format_tb(caught.value.__traceback__))


def test_an_id_outside_of_the_table_comes_at_its_minibatch(table: Prefetcher) -> None:
    batches = [np.array([1]), np.array([2]), np.array([1000]), np.array([3])]
    with table.iterate(batches) as loader:
        for _ in range(2):
            seen = []
            with pytest.raises(IdError, match="1000"):
                seen.extend(ids[0] for ids in loader)
            epoch = iter(loader)
            assert [next(epoch)[0], next(epoch)[0]] == [1, 2]


def test_an_empty_loader_is_an_empty_epoch(table: Prefetcher) -> None:
    with table.iterate([]) as loader:
        assert list(loader) == list(loader) == []


def test_an_evaluation_between_epochs_and_one_in_the_middle(table: Prefetcher) -> None:
    training, evaluation = Sampler(10), Sampler(4)
    with table.iterate(training, ids_of) as loader, table.iterate(evaluation, ids_of) as other:
        evaluations = 0
        for epoch in range(3):
            seen = []
            for each, number, ids in loader:
                assert np.array_equal(table[ids], ROWS[ids])
                seen.append((each, number))
                if number == 5:
                    assert train(table, other) == epoch_of(evaluations, 4)
                    evaluations += 1
                    assert np.array_equal(table[ids], ROWS[ids])  # the minibatch from before it
            assert seen == epoch_of(epoch, 10)
            assert train(table, other) == epoch_of(evaluations, 4)
            evaluations += 1


def test_loaders_in_lockstep(table: Prefetcher) -> None:
    with table.iterate(Sampler(8), ids_of) as one, table.iterate(Sampler(8), ids_of) as two:
        for left, right in zip(one, two):
            assert left[:2] == right[:2]
            for item in (left, right):
                assert np.array_equal(table[item[2]], ROWS[item[2]])


def test_several_tables_share_a_loader() -> None:
    other = np.arange(1000, dtype=np.int16)
    with (
        Prefetcher(ArraySource(ROWS, [0, 300, 1000]), Options(capacity=100, prior="none")) as features,
        Prefetcher(ArraySource(other, [0, 300, 1000]), Options(capacity=50, prior="none")) as labels,
    ):

        def prepare(item: Any) -> Prepared:
            return Prepared(item, 0, [[item[2]], [item[2][:10]]])

        with PrefetchLoader(Sampler(12), [features, labels], prepare) as loader:
            for _ in range(2):
                for _, _, ids in loader:
                    assert np.array_equal(features[ids], ROWS[ids])
                    assert np.array_equal(labels[ids[:10]], other[ids[:10]])
        assert features.metrics().rows_read_unplanned == labels.metrics().rows_read_unplanned == 0


def test_waiting_minibatches_are_bounded_in_bytes() -> None:
    sampler = Sampler(100)
    options = Options(capacity=500, prior="none", plan=Plan(window=16, depth=1))
    with Prefetcher(ArraySource(ROWS, [0, 300, 1000]), options) as table:
        size = sampler.ids(0, 0).nbytes
        with table.iterate(sampler, ids_of, waiting_bytes=4 * size) as loader:
            epoch = iter(loader)
            for taken in range(1, 20):
                table[ids_of(next(epoch))]
                # Four wait, and one more may have been under way when the fourth came.
                assert sampler.made <= taken + 5


def test_where_all_rows_are_local_only_a_few_minibatches_wait() -> None:
    sampler = Sampler(100)
    with (
        Prefetcher(ArraySource(ROWS, [0, 1000]), Options(prior="none")) as table,
        table.iterate(sampler, ids_of) as loader,
    ):
        epoch = iter(loader)
        for taken in range(1, 30):
            ids = ids_of(next(epoch))
            assert np.array_equal(table[ids], ROWS[ids])
            assert sampler.made <= taken + LOCAL_MINIBATCHES + 1


def test_a_loader_needs_no_table() -> None:
    with PrefetchLoader(Sampler(20), [], lambda item: Prepared(item, 8, [])) as loader:
        for epoch in range(2):
            assert [item[:2] for item in loader] == epoch_of(epoch, 20)


class Stuck:
    """A loader whose second minibatch comes only when it is let go."""

    def __init__(self) -> None:
        self.entered, self.go = threading.Event(), threading.Event()

    def __iter__(self) -> Iterator[np.ndarray]:
        yield np.array([900])
        self.entered.set()
        self.go.wait(20)
        yield np.array([901])


def test_closing_wakes_a_trainer_that_waits(table: Prefetcher) -> None:
    stuck = Stuck()
    loader = table.iterate(stuck)
    epoch = iter(loader)
    next(epoch)
    outcome: list[BaseException] = []

    def wait() -> None:
        try:
            next(epoch)
        except BaseException as error:
            outcome.append(error)

    trainer = threading.Thread(target=wait)
    trainer.start()
    assert stuck.entered.wait(20)
    closer = threading.Thread(target=loader.close)
    closer.start()
    trainer.join(20)
    assert [type(error) for error in outcome] == [ClosedError]
    stuck.go.set()
    closer.join(20)
    with pytest.raises(ClosedError):
        iter(loader)


def test_closing_the_table_ends_the_loop(table: Prefetcher) -> None:
    epoch = iter(table.iterate(Sampler(50), ids_of))
    for _ in range(3):
        table[ids_of(next(epoch))]
    table.close()
    with pytest.raises(ClosedError):
        [table[ids_of(item)] for item in epoch]


def test_a_loader_that_nobody_holds_stops_its_thread(table: Prefetcher) -> None:
    loader = table.iterate(Sampler(50), ids_of)
    next(iter(loader))
    thread = loader._lookahead._thread
    assert thread is not None
    gone = weakref.ref(loader)
    del loader
    gc.collect()
    assert gone() is None
    thread.join(20)
    assert not thread.is_alive()


def test_a_for_loop_keeps_the_loader_alive(table: Prefetcher) -> None:
    assert [number for _, number, _ in table.iterate(Sampler(20), ids_of)] == list(range(20))
