"""The example of docs/nccl.md, over the stand-ins: ranks of torchrun, shards in the memory of their GPUs."""

from __future__ import annotations

import re

from torchrun import torchrun


def test_ranks_trade_rows_of_shards_on_their_gpus(fakes: dict[str, str]) -> None:
    code, out, err = torchrun(2, "example_rank.py", "--minibatches", "4", "--rows", "300", **fakes)
    assert code == 0, err
    said = sorted(re.findall(r"rank (\d): (\d+) minibatches, ([\d,]+) rows from others, all right", out))
    assert [(rank, count) for rank, count, _ in said] == [("0", "4"), ("1", "5")]
    # About half of all rows are another rank's.
    for _, count, rows in said:
        assert 0.3 < int(rows.replace(",", "")) / (int(count) * 300) < 0.7
