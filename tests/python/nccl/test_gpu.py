"""On a real GPU, with a real NCCL: the day there is one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nccl_ranks import ThreadStore

import rudder.gpu
import rudder.nccl

pytestmark = pytest.mark.gpu


@pytest.fixture
def torch() -> Any:
    """torch with a GPU; NCCL is here, too."""
    reason = rudder.nccl.why_not()
    if reason is not None:
        pytest.skip(reason)
    module = pytest.importorskip("torch")
    if not module.cuda.is_available():
        pytest.skip("this torch was built without CUDA")
    return module


@pytest.mark.parametrize("width", [1, 33, 512, 4096])
def test_one_rank_trades_with_itself_over_nccl(torch: Any, width: int) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (5000, width), dtype=np.uint8)
    random = np.random.default_rng(width)
    with rudder.nccl.Exchange(ThreadStore(), 0, 1, rows, self_by_nccl=True) as exchange:
        for count in (0, 1, 777, 20_000):
            ids = random.integers(0, len(rows), count)
            got = exchange.rows(ids)
            np.testing.assert_array_equal(got.cpu().numpy() if count else got, rows[ids])
        pinned = torch.empty((300, width), dtype=torch.uint8, pin_memory=True)
        np.testing.assert_array_equal(exchange.rows(ids[:300], pinned).numpy(), rows[ids[:300]])


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8"])
@pytest.mark.parametrize("width", [1, 33, 128])
@pytest.mark.parametrize("kernel", [True, False])
def test_a_shard_in_gpu_memory(
    torch: Any, monkeypatch: pytest.MonkeyPatch, dtype: str, width: int, kernel: bool
) -> None:
    if not kernel:
        monkeypatch.setattr("rudder.nccl.exchange._gpu_runtime", lambda device: None)
    elif (reason := rudder.gpu.why_not()) is not None:
        pytest.skip(reason)
    rows = torch.from_numpy((np.random.default_rng(0).random((3000, width)) * 100).astype(dtype)).cuda()
    random = np.random.default_rng(width)
    with rudder.nccl.Exchange(ThreadStore(), 0, 1, rows, self_by_nccl=True) as exchange:
        assert exchange.serving == ("kernel" if kernel else "copies")
        for count in (0, 1, 777, 5000):
            ids = random.integers(0, len(rows), count)
            assert torch.equal(exchange.rows(ids), rows[torch.from_numpy(ids).cuda()])


def test_ranks_with_a_gpu_each_trade_rows(torch: Any) -> None:
    from nccl_ranks import run_ranks

    ranks = torch.cuda.device_count()
    if ranks < 2:
        pytest.skip("one GPU only")
    kernel = rudder.gpu.why_not() is None
    rows = torch.from_numpy(np.random.default_rng(0).random((ranks * 1000, 96), dtype=np.float32))
    store = ThreadStore()

    def body(rank: int) -> None:
        shard = rows[rank * 1000 : rank * 1000 + 1000].to(f"cuda:{rank}")
        with rudder.nccl.Exchange(store, rank, ranks, shard, device=rank) as exchange:
            assert exchange.serving == ("kernel" if kernel else "copies")
            for number in range(10):
                ids = np.random.default_rng(number * ranks + rank).integers(0, len(rows), 4000)
                assert torch.equal(exchange.rows(ids).cpu(), rows[ids])
            exchange.drain()

    run_ranks(ranks, body)
