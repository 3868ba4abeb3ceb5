"""Small traces, written as files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

SaveTrace = Callable[..., Path]


@pytest.fixture
def save_trace(tmp_path: Path) -> SaveTrace:
    """Writes an .npz trace: ``save_trace(minibatches, name=, nodes=, vip=, halo=)``; ids are row numbers."""

    def save(
        minibatches: Sequence[Sequence[int]],
        *,
        name: str = "small",
        nodes: Sequence[int] | None = None,
        vip: Sequence[float] | None = None,
        halo: int | None = None,
    ) -> Path:
        rows = 1 + max(max(each, default=0) for each in minibatches) if nodes is None else len(nodes)
        path = tmp_path / f"{name}.npz"
        np.savez(
            path,
            ids=np.array([row for each in minibatches for row in each], dtype=np.int32),
            offsets=np.cumsum([0, *map(len, minibatches)]),
            nodes=np.arange(rows) * 10 if nodes is None else np.array(nodes),
            vip=np.zeros(rows, dtype=np.float32) if vip is None else np.array(vip, dtype=np.float32),
            degree=np.ones(rows, dtype=np.int32),
            num_halo=rows if halo is None else halo,
        )
        return path

    return save
