"""The all-to-all of rudder.vip.shard over torch.distributed, one trainer of every partition at a time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np

from rudder.errors import ConfigError
from rudder.vip.shard import Message

# A partition may start minutes after another (its machine loads a larger shard), but not hours.
TIMEOUT = timedelta(minutes=30)


class TorchExchange:
    """Gloo process groups, each with one trainer per partition; every trainer belongs to exactly one.

    Building one is collective over *all* trainers, and so is each computation over it. It has groups of its
    own, so that it never meets the collectives of training. Not thread-safe.
    """

    def __init__(self, part: int, num_parts: int) -> None:
        """`part`: partition of this process. Raises ConfigError where the trainers cannot be grouped."""
        import torch.distributed as dist

        if not dist.is_initialized():
            raise ConfigError(
                "no process group: call torch.distributed.init_process_group before exchanging VIP"
            )
        parts: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(parts, part)
        trainers = [[rank for rank, owner in enumerate(parts) if owner == p] for p in range(num_parts)]
        if len({len(ranks) for ranks in trainers}) != 1 or not trainers[0]:
            counts = ", ".join(str(len(ranks)) for ranks in trainers)
            raise ConfigError(
                f"partitions have {counts} trainers; VIP is exchanged where all have equally many"
            )
        self._dist: Any = dist
        for members in zip(*trainers):
            group = dist.new_group(list(members), timeout=TIMEOUT, backend="gloo")
            if dist.get_rank() in members:
                self._group = group
                # Groups number their members by ascending rank, whatever order they are given in.
                self._place = [sorted(members).index(rank) for rank in members]

    def all_to_all(self, outgoing: list[Message]) -> list[Message]:
        """See rudder.vip.shard.Exchange. All messages of a round have one dtype."""
        import torch

        dtype = outgoing[0].dtype
        by_rank = sorted(range(len(outgoing)), key=self._place.__getitem__)
        send_sizes = torch.tensor([outgoing[p].size for p in by_rank], dtype=torch.int64)
        receive_sizes = torch.empty_like(send_sizes)
        self._dist.all_to_all_single(receive_sizes, send_sizes, group=self._group)
        sent = torch.from_numpy(np.concatenate([outgoing[p] for p in by_rank]).astype(dtype, copy=False))
        received = torch.empty(int(receive_sizes.sum()), dtype=sent.dtype)
        self._dist.all_to_all_single(
            received, sent, receive_sizes.tolist(), send_sizes.tolist(), group=self._group
        )
        pieces = np.split(received.numpy(), np.cumsum(receive_sizes.numpy())[:-1])
        return [pieces[self._place[p]] for p in range(len(outgoing))]
