"""What a modelled run ranks rows by: worths that are given, and accesses that were counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rudder.plan import Plan
from rudder.shadow.sample import Counts, Numbers
from rudder.source import Ids

if TYPE_CHECKING:
    from rudder._core import Prior

#: Half-lives of the counts that stand in for a fresh VIP, and for what a run has counted that has just begun.
_FRESH, _LATELY = 128, 32

#: Worth of every row by the prior's name, float32 [rows of the table]; None: cannot be had (cheaply).
WorthOf = Callable[[str], "NDArray[np.float32] | None"]
Worth = NDArray[np.float32]


@dataclass
class Counted:
    """Accesses of numbers below ``known``: of all that was submitted, and of what the run counted itself."""

    all: Counts = field(default_factory=Counts)
    own: Counts = field(default_factory=Counts)
    known: int = 0


class Ranking:
    """Priors of numbered ids (`rudder.shadow.sample.Numbers`). Not thread-safe."""

    def __init__(self, worth: WorthOf, *, counts_in_force: bool) -> None:
        """``counts_in_force``: the run counts accesses only while its prior is "frequency"."""
        self._worth, self._counts_in_force = worth, counts_in_force
        self._known: dict[str, Worth | None] = {}
        self._counted = Counted()

    def worth(self, name: str) -> Worth | None:
        """Of every row, by a prior that nothing is counted for; None: there is none."""
        if name in ("none", "frequency"):
            return None
        if name not in self._known:
            self._known[name] = self._worth(name)
        return self._known[name]

    def learn(self, name: str, worth: Worth) -> None:
        """A prior was computed: this is what it says."""
        self._known[name] = worth

    def count(self, numbers: Ids, known: int, plan: Plan) -> None:
        """One minibatch's numbers (each once), all below ``known``, submitted under this plan."""
        self._counted.known = known
        self._counted.all.count(numbers, known)
        if plan.prior == "frequency":
            self._counted.own.count(numbers, known)

    def forget(self) -> None:
        """Nothing was counted yet."""
        self._counted = Counted()

    def now(self) -> Counted:
        """A copy of what is counted."""
        counted = self._counted
        return Counted(counted.all.clone(), counted.own.clone(), counted.known)

    def made(self, plan: Plan, numbers: Numbers) -> Prior:
        """The prior that the run gets with a plan that comes into force now."""
        return self._made(plan, numbers, self._counted)

    def beside(self, plan: Plan, numbers: Numbers) -> Prior:
        """The same, of a run that has had this plan from the beginning."""
        return self._prior(plan, numbers, self._counted.all, self._counted.known)

    def foreseen(self, before: Plan, plan: Plan, numbers: Numbers, then: Counted) -> Prior:
        """The prior that a plan would have got in the place of ``before``, with so much counted."""
        if plan.rebuild and plan.prior != "frequency":  # as good as computed from what was asked for lately
            plan = plan.but(prior="frequency", half_life=_FRESH)
            return self._prior(plan, numbers, then.all, then.known)
        if self._counts_in_force and plan.prior == "frequency" != before.prior:
            return self._prior(plan.but(half_life=_LATELY), numbers, then.all, then.known)
        return self._made(plan, numbers, then)

    def _made(self, plan: Plan, numbers: Numbers, counted: Counted) -> Prior:
        counts = counted.own if self._counts_in_force else counted.all
        return self._prior(plan, numbers, counts, counted.known)

    def _prior(self, plan: Plan, numbers: Numbers, counts: Counts, known: int) -> Prior:
        from rudder._core import Prior

        if plan.prior == "frequency":
            return Prior.from_worth(counts.worth(plan.half_life, known))
        worth = self.worth(plan.prior)
        return Prior.from_worth(np.zeros(1, dtype=np.float32) if worth is None else worth[numbers.ids])
