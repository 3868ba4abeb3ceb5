"""What a trainer of the demonstration measures, in the same way without and with Rudder.

Nothing is counted while an epoch runs: the ids of its minibatches are kept, and looked at when it is over.
"""

from __future__ import annotations

import json
import sys
import time
import zlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

# Begins the lines by which trainers tell the demonstration how far they are.
_MARK = "@rudder-demo "


def tell(**values: Any) -> None:
    """Tell the demonstration something."""
    sys.stdout.write(_MARK + json.dumps(values) + "\n")
    sys.stdout.flush()


def told(line: str) -> dict[str, Any] | None:
    """What a line tells; None where it is none of ours."""
    if not line.startswith(_MARK):
        return None
    values: dict[str, Any] = json.loads(line[len(_MARK) :])
    return values


class Meter:
    """Waiting times and remote rows of one trainer. Not thread-safe."""

    def __init__(self, own_nodes: torch.Tensor) -> None:
        """``own_nodes``: ids that this partition owns, one range."""
        self._first, self._last = int(own_nodes[0]), int(own_nodes[-1])
        self._epoch_ids: list[torch.Tensor] = []
        self.seconds_sampling = 0.0
        self.seconds_rows = 0.0
        self.seconds_labels = 0.0
        self.rows_requested = 0
        self.rows_pulled = 0
        self.ids_requested = 0
        self.minibatches = 0
        self.fingerprint = 0

    def loader(self, loader: Iterable[Any]) -> Iterator[Any]:
        """An epoch of ``loader``, with the time that the trainer waits for each minibatch."""
        iterator = iter(loader)
        while True:
            began = time.perf_counter()
            try:
                minibatch = next(iterator)
            except StopIteration:
                return
            finally:
                self.seconds_sampling += time.perf_counter() - began
            yield minibatch

    def rows(self, feats: Any, input_nodes: torch.Tensor) -> torch.Tensor:
        """``feats[input_nodes]``, with the time that it takes."""
        began = time.perf_counter()
        rows: torch.Tensor = feats[input_nodes]
        self.seconds_rows += time.perf_counter() - began
        self._epoch_ids.append(input_nodes)
        return rows

    def labels(self, labels: Any, seeds: torch.Tensor) -> torch.Tensor:
        """``labels[seeds]``, with the time that it takes."""
        began = time.perf_counter()
        rows: torch.Tensor = labels[seeds]
        self.seconds_labels += time.perf_counter() - began
        return rows

    def end_epoch(self) -> None:
        """Count, of each minibatch, the distinct remote rows, and all those that a plain pull moves."""
        for tensor in self._epoch_ids:
            ids = tensor.numpy()
            remote = ids[(ids < self._first) | (ids > self._last)]
            self.ids_requested += len(ids)
            self.rows_pulled += len(remote)
            self.rows_requested += len(np.unique(remote))
            self.minibatches += 1
            self.fingerprint = zlib.crc32(ids.tobytes(), self.fingerprint)
        self._epoch_ids.clear()

    def totals(self) -> dict[str, float]:
        """Everything so far, by name."""
        names = (
            "seconds_sampling", "seconds_rows", "seconds_labels", "rows_requested", "rows_pulled",
            "ids_requested", "minibatches", "fingerprint",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}
