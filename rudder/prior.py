"""Which prior is in force, where it comes from, and when it is computed anew."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rudder.errors import ConfigError
from rudder.frequency import FrequencyPrior
from rudder.options import Options
from rudder.plan import PRIORS, Plan
from rudder.policies import LOOKAHEAD, SCORE, STATIC_FREQUENCY, among, check_prior, needs_own_prior
from rudder.source import FeatureSource, Ids

if TYPE_CHECKING:
    from rudder._core import Prior

_log = logging.getLogger("rudder")
# What stands in for a prior that the source cannot compute.
_FALLBACK = {"vip": "degree", "degree": "none"}


class Priors:
    """The priors of one table, by the names that plans use."""

    def __init__(self, source: FeatureSource, options: Options) -> None:
        """Raises ConfigError for an array that is not of the table's length."""
        self._source = source
        self._policy = options.policy
        starts, part = source.part_starts, source.local_part
        # Ids in this range are local, and never buffered.
        self._local = (int(starts[part]), int(starts[part + 1]))
        self._rows = int(source.part_starts[-1])
        self._given: NDArray[np.float32] | None = None
        self._frequency: FrequencyPrior | None = None
        self._blank = False
        if options.prior is not None and not isinstance(options.prior, str):
            self._given = np.ascontiguousarray(options.prior, dtype=np.float32)
            if self._given.shape != (self._rows,):
                raise ConfigError(f"prior of shape {self._given.shape}: there are {self._rows} rows to rank")

    def start(self, plan: Plan) -> tuple[Plan, Prior | None]:
        """The first plan and prior; where the source lacks the wanted one, the plan names the next best.

        Raises ConfigError where the policy can do with no other.
        """
        while plan.prior in _FALLBACK and plan.prior not in self._source.priors:
            if needs_own_prior(self._policy) and self._local != (0, self._rows):
                raise ConfigError(
                    f"{self._source.name}: there is no {plan.prior} here, which {self._policy} ranks rows by:"
                    " compute it with `rudder prior`, give an array as prior, or choose another"
                    " policy"
                )
            _log.info("%s: no %s prior here, using %s", self._source.name, plan.prior, _FALLBACK[plan.prior])
            plan = plan.but(prior=_FALLBACK[plan.prior])
        self._blank = plan.prior == "frequency"
        if plan.prior in ("none", "frequency") and self._policy != SCORE:
            return plan, None
        return plan, self._build(plan.prior)

    def choices(self, plan: Plan) -> tuple[str, ...]:
        """Priors that may take the place of that of ``plan``, its own among them."""
        if self._policy != LOOKAHEAD:
            return (plan.prior,)
        possible = {"given": self._given is not None, "frequency": True, "none": True}
        possible |= {name: name in self._source.priors for name in _FALLBACK}
        return tuple(name for name in PRIORS if possible[name])

    def worth(self, name: str) -> NDArray[np.float32] | None:
        """float32 [rows], as the policy gets it but for local rows; None where it is counted or missing.

        May be the source's own array: not to be changed.
        """
        if name == "frequency":
            return None
        if self._policy == SCORE:
            return among(self._worth(name), self._halo())
        if name in self._source.priors:
            return np.asarray(self._source.priors[name](), dtype=np.float32)
        return self._given if name == "given" else None

    def due(self, old: Plan, new: Plan) -> bool:
        """Does the new plan need a prior that is not in force: another one, or the same computed anew?"""
        if self._counts_itself(new):
            return False
        return new.rebuild or new.prior != old.prior or self._blank

    def change(self, old: Plan, new: Plan) -> Prior | None:
        """The prior that the new plan needs, None where the present one stays. Raises ConfigError."""
        check_prior(self._policy, new.prior)
        if not self.due(old, new):
            return None
        prior = self._build(new.prior)
        # A run starts "frequency" with nothing counted: the first counts are used without being asked for.
        self._blank = new.prior == "frequency" and self._frequency is None
        return prior

    def count(self, ids: Ids, plan: Plan) -> None:
        """Count the accesses of one minibatch, where the plan in force ranks rows by them."""
        if plan.prior != "frequency" or self._counts_itself(plan):
            return
        if self._frequency is None:
            self._frequency = FrequencyPrior(self._rows)
        low, high = self._local
        self._frequency.count(ids[(ids < low) | (ids >= high)], plan.half_life)

    def _counts_itself(self, plan: Plan) -> bool:
        return self._policy == STATIC_FREQUENCY and plan.prior == "frequency"

    def _build(self, name: str) -> Prior:
        """Local rows are worth nothing, since they are never buffered: in the run as in the record of it."""
        from rudder._core import Prior

        worth = self._worth(name)
        if self._policy == SCORE:
            worth = among(worth, self._halo())
        worth[slice(*self._local)] = 0
        return Prior.from_worth(worth)

    def _worth(self, name: str) -> NDArray[np.float32]:
        """float32 [rows], the caller's own."""
        if name in self._source.priors:
            return np.array(self._source.priors[name](), dtype=np.float32)
        if name == "given" and self._given is not None:
            return self._given.copy()
        if name == "frequency" and self._frequency is not None:
            return self._frequency.worth()
        if name in ("none", "frequency"):
            return np.zeros(self._rows, dtype=np.float32)
        raise ConfigError(f"{self._source.name} has no prior {name!r}")

    def _halo(self) -> NDArray[np.bool_]:
        """bool [rows]: those that `score` may put in; all, where the source knows no halo."""
        if self._source.halo_ids is None:
            return np.ones(self._rows, dtype=np.bool_)
        halo = np.zeros(self._rows, dtype=np.bool_)
        halo[self._source.halo_ids()] = True
        return halo
