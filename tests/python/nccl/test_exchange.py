"""Ranks that trade rows: every row is the source's, whoever asks for whatever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nccl_ranks import ThreadStore, gpu_array, run_ranks

import rudder.nccl
from rudder.errors import ClosedError, ConfigError, IdError

Pinned = Callable[[tuple[int, ...], Any], np.ndarray]


def exchange_of(store: ThreadStore, rank: int, ranks: int, shard: Any, **more: Any) -> rudder.nccl.Exchange:
    return rudder.nccl.Exchange(store, rank, ranks, shard, device=rank, **more)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[int], int, Any, list[list[list[int]]]]:
    sizes = draw(st.lists(st.integers(0, 40), min_size=1, max_size=4).filter(any))
    width, dtype = draw(st.integers(1, 40)), draw(st.sampled_from(["u1", "f4", "f8"]))
    one = st.lists(st.integers(0, sum(sizes) - 1), max_size=60)
    rounds = st.lists(one, max_size=3)
    return sizes, width, dtype, [draw(rounds) for _ in sizes]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=tables(), narrow=st.booleans())
def test_rows_are_those_of_the_source_bit_for_bit(pinned: Pinned, table: Any, narrow: bool) -> None:
    sizes, width, dtype, asked = table
    starts = np.cumsum([0, *sizes])
    raw = np.random.default_rng(1).integers(0, 256, (sum(sizes), width * np.dtype(dtype).itemsize), np.uint8)
    rows = raw.view(dtype)
    store = ThreadStore()

    def body(rank: int) -> int:
        shard = np.ascontiguousarray(rows[starts[rank] : starts[rank + 1]])
        with exchange_of(store, rank, len(sizes), shard) as exchange:
            for ids in asked[rank]:
                wanted = np.array(ids, dtype=np.int32 if narrow else np.int64)
                got = exchange.rows(wanted, pinned((len(ids), width), dtype))
                assert got.tobytes() == rows[wanted].tobytes()
            drained = exchange.drain()
            return len(asked[rank]) + drained

    # Ranks that run out at different times end together.
    assert set(run_ranks(len(sizes), body)) == {max(map(len, asked)) + 1}


def test_rounds_begun_ahead_and_rows_as_they_came(pinned: Pinned) -> None:
    rows = np.arange(60, dtype=np.float32).reshape(20, 3)
    store = ThreadStore()

    def body(rank: int) -> None:
        with exchange_of(store, rank, 2, rows[rank * 10 : rank * 10 + 10]) as exchange:
            ahead = [exchange.start(ids, pinned((3, 3), "f4")) for ids in ([15, 2, 11], [1, 2, 19])]
            out, positions = ahead[0].grouped()
            assert positions is not None
            assert positions.tolist() == [1, 0, 2]
            assert out[:, 0].tolist() == [6, 45, 33]
            assert ahead[0].rows()[:, 0].tolist() == [45, 6, 33]
            out, positions = ahead[1].grouped()
            assert positions is None  # in the order of owners already
            assert ahead[1].rows() is out
            assert ahead[1].finished
            assert exchange.stats()["rounds"] == 2
            exchange.drain()

    run_ranks(2, body)


def test_torch_tensors_and_a_torch_store(pinned: Pinned) -> None:
    torch = pytest.importorskip("torch")
    distributed = pytest.importorskip("torch.distributed")
    rows = torch.arange(80, dtype=torch.int64).reshape(20, 2, 2)
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True)

    def body(rank: int) -> None:
        mine = distributed.TCPStore("127.0.0.1", store.port, is_master=False)
        with exchange_of(mine, rank, 2, rows[rank * 10 : rank * 10 + 10]) as exchange:
            ids = torch.tensor([3, 17, 4, 12], dtype=torch.int32)
            got = exchange.rows(ids, torch.from_numpy(pinned((4, 2, 2), "i8")))
            assert torch.equal(got, rows[ids.long()])
            exchange.drain()

    run_ranks(2, body)


def test_what_cannot_be_asked_begins_no_round(pinned: Pinned) -> None:
    rows = np.arange(10, dtype=np.float64).reshape(10, 1)
    exchange = exchange_of(ThreadStore(), 0, 1, rows)
    with pytest.raises(IdError, match="id 10 is outside"):
        exchange.rows([10], pinned((1, 1), "f8"))
    with pytest.raises(IdError, match="integers in one dimension"):
        exchange.rows([1.5], pinned((1, 1), "f8"))
    with pytest.raises(ConfigError, match="out has 2 rows, for 1 ids"):
        exchange.rows([1], pinned((2, 1), "f8"))
    with pytest.raises(ConfigError, match="rows of out have 4 bytes, not 8"):
        exchange.rows([1], pinned((1, 1), "f4"))
    with pytest.raises(ConfigError, match="pinned host memory"):
        exchange.rows([1], np.empty((1, 1)))
    assert exchange.rows([3], pinned((1, 1), "f8")).tolist() == [[3.0]]
    assert exchange.rows([]).shape == (0, 1)
    exchange.close()
    exchange.close()
    with pytest.raises(ClosedError):
        exchange.rows([1], pinned((1, 1), "f8"))


def test_a_shard_on_the_gpu_serves_rows(faked: dict[str, str], pinned: Pinned) -> None:
    rows = np.random.default_rng(5).random((90, 7)).astype("f4")
    store = ThreadStore()

    def body(rank: int) -> str:
        shard = gpu_array(faked["RUDDER_CUDART_LIBRARY"], (30, 7), "f4")
        shard[:] = rows[rank * 30 : rank * 30 + 30]
        with exchange_of(store, rank, 3, shard) as exchange:
            for number in range(5):
                ids = np.random.default_rng([rank, number]).integers(0, 90, 50 * number)
                assert np.array_equal(exchange.rows(ids, pinned((len(ids), 7), "f4")), rows[ids])
            exchange.drain()
            return exchange.serving

    assert run_ranks(3, body) == ["copies"] * 3


def test_positions_reach_a_gpu_from_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """From other memory CUDA would make the CPU wait until the training stream has come to the copy."""
    torch = pytest.importorskip("torch")
    from rudder.nccl.arrays import take

    pinned: list[Any] = []

    def pin_memory(tensor: Any) -> Any:
        pinned.append(tensor.clone())
        return pinned[-1]

    class OnGpu:
        is_cuda, device = True, "cpu"

        def data_ptr(self) -> int:
            return 0

        def index_select(self, dim: int, order: Any) -> Any:
            assert order is pinned[-1]
            return torch.arange(10, 14).index_select(dim, order)

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    assert take(OnGpu(), np.array([2, 0, 3])).tolist() == [12, 10, 13]
    assert take(torch.arange(5), np.array([4, 1])).tolist() == [4, 1]
    assert len(pinned) == 1  # memory of the host is read where it is


def test_threads_begin_rounds_one_at_a_time(pinned: Pinned) -> None:
    """What is under way is kept in the order of its rounds, or a round's rows could be freed before it."""
    rows = np.arange(10, dtype=np.float64).reshape(10, 1)
    both_here = threading.Barrier(2)
    with exchange_of(ThreadStore(), 0, 1, rows) as exchange:
        core, inside, most = exchange._core, [], []

        class Watched:
            def start(self, *args: Any, **settings: Any) -> Any:
                inside.append(None)
                for _ in range(2000):  # chances for the other thread
                    time.sleep(0)
                    most.append(len(inside))
                inside.pop()
                return core.start(*args, **settings)

            def __getattr__(self, name: str) -> Any:
                return getattr(core, name)

        exchange._core = Watched()

        def body(_: int) -> Any:
            both_here.wait(60)
            return exchange.rows([3, 4], pinned((2, 1), "f8")).tolist()

        assert run_ranks(2, body) == [[[3.0], [4.0]]] * 2
        assert max(most) == 1
        exchange._core = core


class OnAnotherGpu:
    """As far as an exchange looks at a tensor."""

    is_cuda, ndim, dtype, shape = True, 2, "float32", (10, 2)
    device = SimpleNamespace(index=1)

    def __len__(self) -> int:
        return 10

    def is_contiguous(self) -> bool:
        return True

    def element_size(self) -> int:
        return 4

    def data_ptr(self) -> int:
        return 4096


@pytest.mark.usefixtures("faked")
def test_a_shard_on_another_gpu_is_refused() -> None:
    pytest.importorskip("torch")
    with pytest.raises(ConfigError, match="the exchange is on GPU 0"):
        exchange_of(ThreadStore(), 0, 1, OnAnotherGpu())


@pytest.mark.usefixtures("faked")
def test_a_shard_must_be_that_of_its_part() -> None:
    with pytest.raises(ConfigError, match=r"part_starts \[0, 9\] do not give rank 0 of 1 its 10 rows"):
        exchange_of(ThreadStore(), 0, 1, np.zeros((10, 2)), part_starts=[0, 9])
    with pytest.raises(ConfigError, match="contiguously"):
        exchange_of(ThreadStore(), 0, 1, np.zeros((10, 4))[:, ::2])
    with pytest.raises(ConfigError, match="rank 1 must be one of the 1 ranks"):
        exchange_of(ThreadStore(), 1, 1, np.zeros((10, 2)))
