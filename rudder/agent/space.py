"""What a decision may choose: a short list of values for each knob, one step at a time, as a finite tree.

A controller that names any plan at all is brought to the nearest one inside by `Space.bounded`; one that
writes token by token asks `Space.walk` what may come next, and can only write plans that are allowed. Every
plan of the tree has its canonical text (`rudder.plan`), so that a walk through the tree *is* the answer.

Knobs that mean nothing here keep one value: priors that the source cannot compute, the half-life of a prior
that counts nothing, replacement outside of the paper's mode, and everything else inside of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rudder.plan import KEYS, Plan, nearest, written

#: Values of each knob, ascending; a decision moves by one place at most.
LADDERS: dict[str, tuple[float, ...]] = {
    "window": (0, 1, 2, 3, 4, 6, 8),
    "depth": (1, 2, 3, 4, 6, 8, 12, 16),
    "buffer_share": (50, 60, 70, 80, 90, 100),
    "share": (50, 75, 100, 125, 150),
    "interval": (8, 16, 32, 64, 128, 256),
}
#: Minibatches after which an access counts half, where the prior counts accesses; any may follow any.
HALF_LIVES = (0, 32, 128, 512)
#: Percent of the buffer that one replacement may exchange, in the paper's mode; any may follow any.
FRACTIONS = (25, 50, 100)
#: Knobs whose single steps are worth trying in a shadow, by the names that `Space.candidates` gives them.
STEPPED = {"w": "window", "d": "depth", "m": "buffer_share"}


@dataclass(frozen=True)
class Space:
    """The plans that may follow. Raises nothing; all methods are pure."""

    #: The plan that the run started with: what the guard goes back to.
    default: Plan = field(default_factory=Plan)
    #: Priors that can be had here.
    priors: tuple[str, ...] = ("vip",)
    #: Of these, the ones that can be computed anew at an interval's end.
    rebuilds: tuple[str, ...] = ("vip", "frequency")
    #: Paper's mode (policy score): only `replace` and `fraction` are chosen.
    scores: bool = False
    #: May trainers of the host trade memory?
    shares: bool = False

    def choices(self, plan: Plan, name: str, chosen: Mapping[str, Any]) -> tuple[Any, ...]:
        """Values that field ``name`` may take in the plan that follows ``plan``; never empty.

        ``chosen``: the fields before it, in the order of the text form.
        """
        own = getattr(plan, name)
        if name in ("replace", "fraction"):
            if not self.scores:
                return (own,)
            return (False, True) if name == "replace" else FRACTIONS
        if self.scores:
            return (False,) if name == "rebuild" else (own,)
        if name == "prior":
            return self.priors if own in self.priors else (own, *self.priors)
        if name == "half_life":
            return HALF_LIVES if chosen["prior"] == "frequency" else (0,)
        if name == "rebuild":
            return (False, True) if chosen["prior"] in self.rebuilds else (False,)
        if name == "share" and not self.shares:
            return (own,)
        return _steps(name, own)

    def walk(self, plan: Plan, chosen: Mapping[str, Any]) -> tuple[str, list[tuple[str, Any]]] | None:
        """The next branch: (text before the value, [(text of the value, value)]); None at the tree's end.

        The texts of a walk, one after the other, are the canonical text of the plan chosen.
        """
        for place, (key, name) in enumerate(KEYS.items()):
            if name not in chosen:
                before = f"{'v1' if place == 0 else ''} {key}="
                return before, [(written(value), value) for value in self.choices(plan, name, chosen)]
        return None

    def bounded(self, plan: Plan, answer: Plan) -> Plan:
        """The plan of the tree that is nearest to ``answer``."""
        chosen: dict[str, Any] = {}
        for name in KEYS.values():
            allowed, wanted = self.choices(plan, name, chosen), getattr(answer, name)
            if wanted in allowed:
                chosen[name] = wanted
            elif name in LADDERS or name in ("half_life", "fraction"):
                chosen[name] = min(allowed, key=lambda value: (abs(value - wanted), value))
            else:
                own = getattr(plan, name)
                chosen[name] = own if own in allowed else allowed[0]
        return Plan(**chosen)

    def allows(self, plan: Plan, answer: Plan) -> bool:
        """Is ``answer`` a plan of the tree?"""
        return self.bounded(plan, answer) == answer

    def candidates(self, plan: Plan) -> dict[str, Plan]:
        """Plans that differ from ``plan`` in one thing, by a short name, "=" (itself) first.

        "w+", "w-", "d+", ...: one step of a knob ("s+" and "s-" where trainers trade memory); "pv", "pd",
        "pf", "pn": another prior (the first letter of its name); "b": the prior computed anew; "df": the
        default, within the same share. "y" and "n": the paper's answers.
        """
        plan = plan.but(rebuild=False)
        found = {"=": plan}
        if self.scores:
            found.update(y=plan.but(replace=True), n=plan.but(replace=False))
        else:
            stepped = {**STEPPED, "s": "share"} if self.shares else STEPPED
            for key, name in stepped.items():
                own = getattr(plan, name)
                for value in _steps(name, own):
                    if value != own:
                        found[key + ("+" if value > own else "-")] = plan.but(**{name: value})
            for prior in self.priors:
                if prior != plan.prior:
                    half_life = HALF_LIVES[2] if prior == "frequency" else 0
                    found["p" + prior[0]] = plan.but(prior=prior, half_life=half_life)
            if plan.prior in self.rebuilds:
                found["b"] = plan.but(rebuild=True)
        found["df"] = self.default.but(rebuild=False, share=plan.share)
        return found


def neighbour(name: str, own: float, *, above: bool) -> Any:
    """The next value on a knob's ladder; ``own`` at its end."""
    return _steps(name, own)[-1 if above else 0]


def _steps(name: str, own: float) -> tuple[Any, ...]:
    """The value itself and its neighbours on the ladder, ascending."""
    ladder = LADDERS[name]
    below = [value for value in ladder if value < own][-1:]
    above = [value for value in ladder if value > own][:1]
    return tuple(nearest(name, value) for value in (*below, own, *above))
