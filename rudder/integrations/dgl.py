"""Rudder in a DistDGL script: `attach` a DistTensor, `prefetch` a loader."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from dgl.distributed import DistDataLoader, DistTensor

from rudder.config import Capacity
from rudder.integrations import dgl_rpc
from rudder.integrations.dgl_at import At, ids_at
from rudder.integrations.dgl_blocks import Packer
from rudder.integrations.dgl_device import DglFeed, WithIds
from rudder.integrations.dgl_feature import AttachedTensor
from rudder.integrations.dgl_tables import DistTensorSource, find_tensor
from rudder.loader import PrefetchLoader
from rudder.options import Options
from rudder.sampling import Prepared

__all__ = ["AttachedTensor", "attach", "prefetch"]


def attach(
    g: Any,
    which: str | DistTensor = "features",
    capacity: Capacity = 0.25,
    *,
    ntype: str | None = None,
    etype: Any | None = None,
    at: At | None = None,
    transport: str | None = None,
    part_config: str | os.PathLike[str] | None = None,
    pin_memory: bool = False,
    **options: Any,
) -> AttachedTensor:
    """Put a buffer in front of a DistTensor; use what is returned in its place.

    g:           the DistGraph.
    which:       name of node or edge data, or a DistTensor.
    capacity:    size of the buffer: a fraction of the partition's halo (0.25), rows (100000), or memory
                 ("2GiB").
    ntype/etype: the type, where several have data of that name.
    at:          the ids that a minibatch will ask for: "input_nodes" (the default for node data), "seeds",
                 "edges" (the default for edge data: the edge ids of each block), or a function from a
                 minibatch to ids.
    transport:   "shm", "ucx" or "kvstore", or several as in "ucx,kvstore": the first that works is used,
                 the later ones when it fails. By default chosen for each peer by a micro-transfer.
    part_config: the partition file, beside which the prior lies; by default the one that DGL_CONF_PATH
                 names.
    pin_memory:  return pinned tensors, for asynchronous copies to a GPU.
    options:     fields of `rudder.Options` (policy, policy_settings, prior, plan, controller, deadline,
                 verify, metrics_dir ...). With device="cuda" rows are tensors on that GPU, gathered there in
                 one launch on torch's present stream; ``feats[ids]`` then waits for the GPU only where
                 ``ids`` are a tensor on it that no loader of Rudder's handed over.

    Call it on every trainer, after DGL is initialised; trainers need not do it at the same time. Raises
    ConfigError, ArenaError, TransportError.
    """
    dgl_rpc.install()
    tensor = find_tensor(g, which, ntype, etype)
    source = DistTensorSource(g, tensor, part_config=part_config, transport=transport)
    place = at if at is not None else ("input_nodes" if source.is_node else "edges")
    ids_of = ids_at(place, source.is_node, source.type_name, g.ntypes)
    settings = Options(capacity=capacity, **{"rank": int(g.rank()), **options})
    return AttachedTensor(tensor, source, settings, ids_of, pin_memory=pin_memory)


def prefetch(
    loader: Iterable[Any],
    *feats: AttachedTensor,
    window: float | None = None,
    device: Any | None = None,
    epochs: int | None = None,
    waiting_bytes: int | str = "1GiB",
) -> PrefetchLoader:
    """Sample ahead in the background, so that the rows of ``feats`` are here when the trainer asks for them.

    Yields what ``loader`` yields, in the same order; see `rudder.loader.PrefetchLoader`. It works with
    DistNodeDataLoader, DistEdgeDataLoader and any iterable of tuples that starts anew at each ``iter()``.

    window:        buffers of remote requests to sample ahead; by default as each tensor's plan says.
    device:        yield tensors and graphs there. Where ``feats`` were attached with device="cuda", blocks
                   and rows of the next minibatch are on their way to the GPU while you work on this one.
    epochs:        how many epochs there will be, so that none is sampled ahead in vain.
    waiting_bytes: bound on the sampled minibatches that wait.
    """
    if window is not None:
        for feat in feats:
            feat.replan(window=window)

    def prepare(minibatch: Any) -> Prepared:
        packer = Packer()
        packed = packer.pack(minibatch)
        parts = [[packer.tensor(part) for part in feat.ids_of(minibatch)] for feat in feats]
        ids = [[part.as_array() for part in each] for each in parts]
        return Prepared(WithIds(packed, parts), packer.nbytes, ids)

    return PrefetchLoader(
        loader,
        [feat.prefetcher for feat in feats],
        prepare,
        maker=DglFeed(feats, device),
        waiting_bytes=waiting_bytes,
        epochs=epochs,
        abandon=_drain_samplers,
        length=_length,
    )


def _length(loader: Any) -> int:
    """Minibatches of an epoch; DGL's distributed loaders know it, but have no len()."""
    return int(loader.expected_idxs) if isinstance(loader, DistDataLoader) else len(loader)


def _drain_samplers(iterator: Any) -> None:
    """Take what sampler processes still make for an epoch that was left, or the next would get it."""
    if isinstance(iterator, DistDataLoader) and iterator.pool is not None:
        while iterator.num_pending > 0:
            iterator.pool.get_result(iterator.name)
            iterator.num_pending -= 1
