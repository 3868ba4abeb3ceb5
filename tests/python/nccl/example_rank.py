"""examples/trade_rows.py as a rank runs it, on a GPU that is the stand-in's, which torch knows nothing of."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import Any

import torch
from nccl_ranks import gpu_array  # beside this script

from rudder.nccl.arrays import Rows

LIBRARY = os.environ["RUDDER_CUDART_LIBRARY"]


to = torch.Tensor.to


def to_gpu(tensor: torch.Tensor, place: Any, **settings: Any) -> torch.Tensor:
    if place != f"cuda:{os.environ['LOCAL_RANK']}":
        return to(tensor, place, **settings)
    held = torch.from_numpy(gpu_array(LIBRARY, tuple(tensor.shape), tensor.numpy().dtype))
    return held.copy_(tensor)


def empty(self: Rows, rows: int, device: int, pinned: bool) -> Any:
    assert not pinned
    kind = self.array.numpy().dtype
    return torch.from_numpy(gpu_array(LIBRARY, (rows, *self.array.shape[1:]), kind))


torch.Tensor.to = to_gpu  # type: ignore[assignment,method-assign]
Rows.empty = empty  # type: ignore[method-assign]
example = Path(__file__).resolve().parents[3] / "examples" / "trade_rows.py"
sys.argv[0] = str(example)
runpy.run_path(str(example), run_name="__main__")
