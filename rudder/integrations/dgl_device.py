"""Minibatches of DGL on a GPU: blocks and rows there, one ahead, and the ids by which rows are asked for."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray

from rudder.device_feed import DeviceFeed, Made
from rudder.integrations.dgl_blocks import PackedTensor, Unpacker
from rudder.sampling import Item, Prepared

if TYPE_CHECKING:
    from rudder.gpu import Gpu
    from rudder.integrations.dgl_feature import AttachedTensor

# Tensors of ids that a table remembers: those of the parts of a few minibatches.
_KNOWN = 64


class KnownIds:
    """Which ids a tensor on the GPU holds, for tensors that were handed over: asking it would wait for it."""

    def __init__(self) -> None:
        """None known."""
        self._known: list[tuple[weakref.ref[torch.Tensor], int, NDArray[Any]]] = []

    def add(self, tensor: torch.Tensor, ids: NDArray[Any]) -> None:
        """``tensor`` holds these."""
        self._known = [*self._known[1 - _KNOWN :], (weakref.ref(tensor), tensor._version, ids)]

    def of(self, tensor: torch.Tensor) -> NDArray[Any] | None:
        """The ids of this very tensor, unless it was written to since."""
        for known, version, ids in reversed(self._known):
            if known() is tensor and tensor._version == version:
                found: NDArray[Any] = ids
                return found
        return None


class WithIds:
    """The waiting form of a minibatch with the packed ids that each table is asked for."""

    def __init__(self, packed: Any, ids: Sequence[Sequence[PackedTensor]]) -> None:
        """``ids``: for each table, its parts; tensors of the minibatch itself, where they are in it."""
        self.packed, self.ids = packed, ids


class DglFeed:
    """Minibatches where the trainer wants them; see `rudder.loader.Maker`."""

    def __init__(self, feats: Sequence[AttachedTensor], place: Any | None) -> None:
        """``place``: torch device that blocks go to; None: main memory."""
        self._feats, self._place = feats, None if place is None else torch.device(place)
        gpu = next((feat.prefetcher.gpu for feat in feats if feat.prefetcher.gpu is not None), None)
        self._feed = self._ahead(gpu) if gpu is not None and self._place is not None else None

    def finish(self, item: Item) -> Any:
        """The minibatch, at the place."""
        if self._feed is not None:
            return self._feed.finish(item)
        assert item.prepared is not None
        return self._make(item.prepared).value

    def begin(self, item: Item | None) -> None:
        """The next one, where it goes to a GPU."""
        if self._feed is not None:
            self._feed.begin(item)

    def _ahead(self, gpu: Gpu) -> DeviceFeed:
        return DeviceFeed(gpu, [feat.prefetcher for feat in self._feats], self._make)

    def _make(self, prepared: Prepared) -> Made:
        waited: WithIds = prepared.packed
        unpacker = Unpacker(self._place)
        made = Made(unpacker.unpack(waited.packed), unpacker.tensors)
        for feat, parts in zip(self._feats, waited.ids):
            for part in parts:
                if unpacker.has(part):
                    feat.known_ids.add(unpacker.tensor(part), part.as_array())
        return made
