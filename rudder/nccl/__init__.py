"""Rows traded between GPUs over NCCL: each rank holds a shard of the table; all ask and answer in rounds.

    exchange = rudder.nccl.Exchange(store, rank, ranks, shard)   # shard: this rank's rows, torch or numpy
    for ids in minibatches:
        x = exchange.rows(ids)      # every rank takes part in every round
    exchange.drain()                # until the others have run out, too

NCCL and the CUDA runtime are looked for when the first exchange is made, never by `import rudder.nccl`.
"""

from __future__ import annotations

from rudder.nccl.exchange import Exchange, Pending
from rudder.nccl.libraries import HOW_TO_GET, library, why_not

__all__ = ["HOW_TO_GET", "Exchange", "Pending", "library", "why_not"]
