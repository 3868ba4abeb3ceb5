"""A workload: what one trainer requests, and what everything costs, minibatch by minibatch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rudder.rollout.terms import PRIORS
from rudder.trace import Worth


@dataclass(frozen=True)
class Workload:
    """Arrays of length T are by minibatch. Costs are those of a trainer that nobody steers."""

    #: "kind:seed", and the trace's name before it where the accesses were recorded.
    name: str
    id_space: int
    #: Remote rows of minibatch t: ids[offsets[t]:offsets[t + 1]], each once. int32 [A], int64 [T + 1].
    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    row_bytes: int
    #: Prior "degree", [id_space].
    degree: Worth
    #: Prior "vip": what computing it from minibatch "first" on gives, ascending; the first entry is of 0.
    vip: tuple[tuple[int, Worth], ...]
    #: Seconds that one computation of a prior takes from the trainer.
    rebuild_s: float
    #: Seconds to sample, and to train on, each minibatch. float64 [T].
    sampling_s: NDArray[np.float64]
    compute_s: NDArray[np.float64]
    #: Of the link: bytes a second, and seconds until a fetch's last row is there. float64 [T].
    bandwidth: NDArray[np.float64]
    latency_s: NDArray[np.float64]
    #: Memory for buffered rows and, where the plan says so, waiting blocks; in rows. int64 [T].
    memory_rows: NDArray[np.int64]
    #: Bytes of the sampled blocks of each minibatch, which wait with it. float64 [T].
    block_bytes: NDArray[np.float64]
    #: Priors that can be had; arrays of the others hold nothing.
    priors: tuple[str, ...] = PRIORS

    def __len__(self) -> int:
        """Minibatches."""
        return len(self.offsets) - 1

    def until(self, minibatch: int) -> Workload:
        """Its minibatches before this one."""
        end = min(minibatch, len(self))
        by_minibatch = ("sampling_s", "compute_s", "bandwidth", "latency_s", "memory_rows", "block_bytes")
        return replace(
            self,
            ids=self.ids[: self.offsets[end]],
            offsets=self.offsets[: end + 1],
            vip=tuple(each for each in self.vip if each[0] < max(1, end)),
            **{name: getattr(self, name)[:end] for name in by_minibatch},
        )

    @property
    def kind(self) -> str:
        """What changes over time: one of `rudder.rollout.generate.KINDS`."""
        return self.name.split(":")[-2]

    def vip_at(self, minibatch: int) -> Worth:
        """What computing the prior "vip" before this minibatch gives."""
        return [worth for first, worth in self.vip if first <= minibatch][-1]
