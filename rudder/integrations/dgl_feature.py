"""A DistTensor's face over a prefetcher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from dgl.distributed import DistTensor

from rudder.errors import ConfigError, IdError
from rudder.integrations.dgl_device import KnownIds
from rudder.integrations.dgl_tables import DistTensorSource, as_bytes
from rudder.integrations.dgl_writes import wait_for_writes
from rudder.metrics import IntervalMetrics
from rudder.options import Options
from rudder.plan import Plan
from rudder.prefetcher import Prefetcher
from rudder.source import Ids, as_ids


class AttachedTensor:
    """Behaves as the DistTensor that it replaces; its remote rows come from the buffer.

    Indexing takes what a DistTensor takes: a tensor, array or list of ids, a slice, one id. Attributes that
    it lacks are the DistTensor's. Reading is thread-safe.
    """

    def __init__(
        self,
        tensor: DistTensor,
        source: DistTensorSource,
        options: Options,
        ids_of: Callable[[Any], list[torch.Tensor]],
        *,
        pin_memory: bool = False,
    ) -> None:
        """Use `rudder.attach`."""
        self._tensor = tensor
        self._source = source
        self._pin = pin_memory
        #: The parts of ids that a minibatch will ask of this tensor.
        self.ids_of = ids_of
        #: The ids in tensors on the GPU that a loader handed over.
        self.known_ids = KnownIds()
        #: The engine underneath.
        self.prefetcher = Prefetcher(source, options)

    # -- as a DistTensor

    def __getitem__(self, index: Any) -> torch.Tensor:
        """The rows of ``index`` in its order, as a new tensor; on the GPU where it was attached with one.

        Raises IdError, TransportError, DeviceError.
        """
        ids = self._ids(index)
        if self.prefetcher.gpu is not None:
            on_device: torch.Tensor = self.prefetcher.rows_on_device(ids)
            return on_device
        out = torch.empty((len(ids), *self.shape[1:]), dtype=self.dtype, pin_memory=self._pin)
        if len(ids):
            self.prefetcher.read_into(ids, as_bytes(out))
        return out

    def __setitem__(self, index: Any, rows: Any) -> None:
        """Write through to the DistTensor; what is buffered of these rows is fetched anew.

        Rows written by other trainers are seen after `invalidate`.
        """
        ids = self._ids(index)
        self._tensor[torch.from_numpy(ids)] = rows
        wait_for_writes(self._tensor, ids)
        self.prefetcher.invalidate(ids)

    def __len__(self) -> int:
        """Rows of the table."""
        return int(self.shape[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole table."""
        return tuple(self._tensor.shape)

    @property
    def dtype(self) -> torch.dtype:
        """Type of its elements."""
        dtype: torch.dtype = self._tensor.dtype
        return dtype

    @property
    def name(self) -> str:
        """The DistTensor's name."""
        return str(self._tensor.name)

    @property
    def part_policy(self) -> Any:
        """How its rows are spread over machines."""
        return self._tensor.part_policy

    @property
    def dist_tensor(self) -> DistTensor:
        """The DistTensor itself: reads and writes without the buffer."""
        return self._tensor

    def __getattr__(self, name: str) -> Any:
        """Everything else a DistTensor has."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._tensor, name)

    def __repr__(self) -> str:
        """Name, shape and type."""
        return f"AttachedTensor({self.prefetcher.source.name!r}, shape={self.shape}, dtype={self.dtype})"

    # -- steering and metrics

    @property
    def plan(self) -> Plan:
        """The plan in force."""
        return self.prefetcher.plan

    def replan(
        self,
        *,
        train_nids: Any | None = None,
        fanouts: Sequence[Any] | None = None,
        batch_size: int | None = None,
        **changes: Any,
    ) -> Plan:
        """Change fields of the plan in force now, see `rudder.Plan`.

        With ``train_nids`` (this trainer's), ``fanouts`` and ``batch_size`` the VIP prior is made anew. That
        is collective: every trainer of the job calls it at the same point of its program.
        """
        if train_nids is not None or fanouts is not None or batch_size is not None:
            if train_nids is None or fanouts is None or batch_size is None:
                raise ConfigError("a new prior needs all three of train_nids, fanouts and batch_size")
            self._source.refresh_vip(train_nids, fanouts, batch_size)
            changes = {"prior": "vip", "rebuild": True, **changes}
        return self.prefetcher.replan(**changes)

    def metrics(self) -> IntervalMetrics:
        """Totals since it was attached."""
        return self.prefetcher.metrics()

    def route_state(self) -> list[dict[str, object]]:
        """Per partition: the transport in use, whether it is a fallback, and why."""
        return self.prefetcher.route_state()

    def invalidate(self, ids: Any | None = None) -> None:
        """The rows of ``ids`` (None: all) were changed by another process: fetch them anew."""
        self.prefetcher.invalidate(None if ids is None else self._ids(ids))

    def close(self) -> None:
        """Stop prefetching and write the last metrics; indexing raises ClosedError afterwards. Idempotent."""
        self.prefetcher.close()

    def _ids(self, index: Any) -> Ids:
        if isinstance(index, torch.Tensor):
            known = self.known_ids.of(index)
            if known is not None:
                return as_ids(known, len(self))
            flat = index.detach() if index.dim() else index.detach().reshape(1)
            return as_ids(flat.cpu().numpy(), len(self))
        if isinstance(index, slice):
            if index.step not in (None, 1):
                raise IdError(f"slices of a step other than 1 are not supported: {index}")
            return np.arange(*index.indices(len(self)), dtype=np.int64)
        return as_ids(np.atleast_1d(np.asarray(index)), len(self))
