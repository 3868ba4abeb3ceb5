"""Which prior is in force, where it comes from, and when it is computed anew."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rudder.errors import ConfigError
from rudder.frequency import FrequencyPrior
from rudder.options import PriorLike
from rudder.plan import Plan
from rudder.source import FeatureSource, Ids

if TYPE_CHECKING:
    from rudder._core import Prior

_log = logging.getLogger("rudder")
# What stands in for a prior that the source cannot compute.
_FALLBACK = {"vip": "degree", "degree": "none"}


class Priors:
    """The priors of one table, by the names that plans use."""

    def __init__(self, source: FeatureSource, wanted: PriorLike) -> None:
        """``wanted`` as in `Options.prior`."""
        self._source = source
        starts, part = source.part_starts, source.local_part
        # Ids in this range are local, and never buffered.
        self._local = (int(starts[part]), int(starts[part + 1]))
        self._rows = int(source.part_starts[-1])
        self._given: NDArray[np.float32] | None = None
        self._frequency: FrequencyPrior | None = None
        self._blank = False
        if wanted is not None and not isinstance(wanted, str):
            self._given = np.ascontiguousarray(wanted, dtype=np.float32)
            if self._given.shape != (self._rows,):
                raise ConfigError(f"prior of shape {self._given.shape}: there are {self._rows} rows to rank")

    def start(self, plan: Plan) -> tuple[Plan, Prior | None]:
        """The first plan and prior; where the source lacks the wanted one, the plan names the next best."""
        while plan.prior in _FALLBACK and plan.prior not in self._source.priors:
            _log.info("%s: no %s prior here, using %s", self._source.name, plan.prior, _FALLBACK[plan.prior])
            plan = plan.but(prior=_FALLBACK[plan.prior])
        if plan.prior in ("none", "frequency"):
            self._blank = plan.prior == "frequency"
            return plan, None
        return plan, self._build(plan.prior)

    def due(self, old: Plan, new: Plan) -> bool:
        """Does the new plan need a prior that is not in force: another one, or the same computed anew?"""
        return new.rebuild or new.prior != old.prior or self._blank

    def change(self, old: Plan, new: Plan) -> Prior | None:
        """The prior that the new plan needs, None where the present one stays. Raises ConfigError."""
        if not self.due(old, new):
            return None
        prior = self._build(new.prior)
        # A run starts "frequency" with nothing counted: the first counts are used without being asked for.
        self._blank = new.prior == "frequency" and self._frequency is None
        return prior

    def count(self, ids: Ids, plan: Plan) -> None:
        """Count the accesses of one minibatch, where the plan in force ranks rows by them."""
        if plan.prior != "frequency":
            return
        if self._frequency is None:
            self._frequency = FrequencyPrior(self._rows)
        low, high = self._local
        self._frequency.count(ids[(ids < low) | (ids >= high)], plan.half_life)

    def _build(self, name: str) -> Prior:
        from rudder._core import Prior

        if name in self._source.priors:
            return self._remote_only(np.asarray(self._source.priors[name](), dtype=np.float32))
        if name == "given" and self._given is not None:
            return self._remote_only(self._given)
        if name == "frequency" and self._frequency is not None:
            return Prior.from_worth(self._frequency.worth())
        if name in ("none", "frequency"):
            return Prior.from_levels(np.zeros(self._rows, dtype=np.uint8))
        raise ConfigError(f"{self._source.name} has no prior {name!r}")

    def _remote_only(self, worth: NDArray[np.float32]) -> Prior:
        """Local rows are never buffered: worth nothing, in the run as in the record of it."""
        from rudder._core import Prior

        low, high = self._local
        worth = np.array(worth, dtype=np.float32)
        worth[low:high] = 0
        return Prior.from_worth(worth)
