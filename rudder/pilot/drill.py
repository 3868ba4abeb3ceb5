"""Examples without a simulator: random evidence, and the answer that its counterfactuals alone speak for.

They are what the pilot learns first: to read the line, to compare numbers, to write plans. There are as many
of them as one wants, where decisions from workloads are dear.
"""

from __future__ import annotations

import random
from typing import Any

from rudder.agent.evidence import COUNTERFACTUALS, SIGNALS
from rudder.agent.examples import Example
from rudder.agent.space import FRACTIONS, LADDERS, STEPPED, Space
from rudder.plan import Plan

#: Changes that promise less than this, in tenths of a percent, are noise.
MARGIN = 5
_PRIORS = {"pv": "vip", "pd": "degree", "pf": "frequency", "pn": "none"}


def drill(count: int, seed: int) -> list[Example]:
    """``count`` examples."""
    chance = random.Random(f"drill {seed}")
    return [_one(chance) for _ in range(count)]


def paper_drill(count: int, seed: int) -> list[Example]:
    """``count`` examples of the paper's mode: replace, or not, as the two modelled times say."""
    chance = random.Random(f"paper {seed}")
    return [_yes_or_no(chance) for _ in range(count)]


def answer_of(space: Space, plan: Plan, promised: dict[str, int]) -> Plan:
    """Every step that promises more than the margin, the best where two exclude each other.

    ``promised``: counterfactuals in tenths of a percent, negative where faster.
    """
    changes: dict[str, Any] = {}
    for key, name in STEPPED.items():
        best = min((key + "+", key + "-"), key=lambda way: promised.get(way, 0))
        candidate = space.candidates(plan).get(best)
        if promised.get(best, 0) <= -MARGIN and candidate is not None:
            changes[name] = getattr(candidate, name)
    prior = min(_PRIORS, key=lambda key: promised.get(key, 0))
    if promised.get(prior, 0) <= -MARGIN and _PRIORS[prior] in space.priors:
        changes.update(prior=_PRIORS[prior], half_life=128 if prior == "pf" else 0)
    if promised.get("b", 0) <= -MARGIN and "prior" not in changes:
        changes["rebuild"] = True
    return space.bounded(plan, plan.but(rebuild=False).but(**changes))


def _one(chance: random.Random) -> Example:
    priors = tuple(
        prior for prior in ("vip", "degree", "frequency", "none") if prior == "vip" or chance.random() < 0.6
    )
    space = Space(priors=priors)
    prior = chance.choice(priors)
    plan = Plan(
        window=chance.choice(LADDERS["window"]),
        depth=int(chance.choice(LADDERS["depth"])),
        buffer_share=int(chance.choice(LADDERS["buffer_share"])),
        prior=prior,
        half_life=128 if prior == "frequency" else 0,
        interval=int(chance.choice(LADDERS["interval"])),
    )
    scale = chance.choice((3, 10, 30, 100, 300))
    known = chance.random() < 0.95
    promised = {
        name: max(-999, min(999, round(chance.gauss(scale / 4, scale)))) if chance.random() < 0.7 else 0
        for name in space.candidates(plan)
        if name != "=" and known
    }
    numbers = {name: _signal(chance, name) for name in SIGNALS}
    numbers.update({name: promised.get(name, 0) for name in COUNTERFACTUALS})
    line = f"{plan} | " + " ".join(f"{key}:{value}" for key, value in numbers.items())
    best = min(promised, key=lambda name: promised[name], default="=")
    if promised.get(best, 0) > -MARGIN:
        best = "="
    return Example(line, str(answer_of(space, plan, promised)), best)


def _yes_or_no(chance: random.Random) -> Example:
    plan = Plan(
        replace=chance.random() < 0.5,
        fraction=chance.choice(FRACTIONS),
        prior=chance.choice(("vip", "degree", "none")),
        interval=int(chance.choice(LADDERS["interval"])),
    )
    scale = chance.choice((3, 10, 30, 100, 300))
    other = "n" if plan.replace else "y"
    promised = {other: max(-999, min(999, round(chance.gauss(0, scale))))}
    changed = promised[other] <= -MARGIN
    numbers = {name: _signal(chance, name) for name in SIGNALS}
    numbers.update({name: promised.get(name, 0) for name in COUNTERFACTUALS})
    line = f"{plan} | " + " ".join(f"{key}:{value}" for key, value in numbers.items())
    answer = plan.but(replace=not plan.replace) if changed else plan
    return Example(line, str(answer), "y" if answer.replace else "n")


def _signal(chance: random.Random, name: str) -> int:
    if chance.random() < 0.3:
        return 0
    changes = name in ("ms", "mc", "rc", "fc", "ef")
    size = chance.choice((10, 100, 999))
    return chance.randint(-min(size, 99) if changes else 0, size)
