"""Labelled decisions from played workloads.

Each workload is played once, by somebody who goes where decisions matter: mostly along the labels, at times
astray, from plans near and far. On the way every interval's decision is labelled, whoever made it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Optional

from rudder.agent.evidence import Evidence
from rudder.agent.examples import Example
from rudder.agent.space import LADDERS
from rudder.plan import Plan
from rudder.policies import SCORE
from rudder.rollout.generate import DRIFTING, workload
from rudder.rollout.label import HORIZON, label
from rudder.rollout.recorded import KINDS as RECORDED_KINDS
from rudder.rollout.recorded import Traces
from rudder.rollout.simulator import Simulator
from rudder.rollout.terms import LIVE, PRIORS, Terms
from rudder.rollout.workload import Workload
from rudder.shadow.latency import ASSUMED_S

# Costs drawn for a trace that tells of none, each in every kind.
_DRAWS = 2
_WAYS = {"label": 0.45, "astray": 0.3, "shadow": 0.15, "stay": 0.1}


@dataclass(frozen=True)
class Amount:
    """How many workloads, from which seed. Held-out ones share no graph and no cost with the others."""

    workloads: int
    seed: int
    held_out: bool = False
    #: The paper's mode: policy score, yes or no to replacement.
    scores: bool = False
    #: Recorded accesses, beside the generated ones.
    traces: Traces | None = None

    def recorded(self) -> Iterator[Workload]:
        """Workloads of the traces: of their first halves, or of the second ones where held out."""
        seeds = range(self.seed * 10_000, self.seed * 10_000 + (1 if self.held_out else _DRAWS))
        if self.traces is not None:
            yield from self.traces.workloads(held_out=self.held_out, seeds=seeds, kinds=RECORDED_KINDS)


def gather(amount: Amount, processes: int, tell: Callable[[str], None]) -> list[Example]:
    """All decisions of all workloads, in the order of the workloads. ``processes`` changes no example."""
    tasks: list[_Task] = [(amount, number, None) for number in range(amount.workloads)]
    tasks += [(amount, number, load) for number, load in enumerate(amount.recorded(), amount.workloads)]
    found: list[Example] = []
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for number, examples in enumerate(pool.map(_played, tasks), 1):
            found += examples
            if number % 20 == 0 or number == len(tasks):
                tell(f"workload {number} of {len(tasks)}: {len(found)} decisions")
    return found


# Which amount, the how many-th workload of it, and that itself where it was recorded.
_Task = tuple[Amount, int, Optional[Workload]]


def _played(task: _Task) -> list[Example]:
    amount, number, load = task
    chance = random.Random(f"{amount.seed} {number} {amount.held_out}")
    kinds = (*DRIFTING, *DRIFTING, "steady")
    if load is None:
        load = workload(kinds[number % len(kinds)], amount.seed * 10_000 + number, held_out=amount.held_out)
    if amount.scores:
        start = Plan(prior="degree", replace=chance.random() < 0.5)
        simulator = Simulator(load, start, policy=SCORE)
    else:
        default, start, priors = _start(chance, load.priors)
        simulator = Simulator(load, default, terms=_terms(chance, priors))
    way = chance.choices(list(_WAYS), list(_WAYS.values()))[0]
    blind = chance.random() < 0.05
    found: list[Example] = []
    while True:
        evidence = _as_live(simulator.step(start), chance, blind)
        if simulator.done:
            return found
        example = label(evidence, simulator.cost_of(HORIZON), load.name)
        found.append(example)
        start = _next(way, evidence, example, chance)


def _start(chance: random.Random, known: tuple[str, ...]) -> tuple[Plan, Plan, tuple[str, ...]]:
    """The default plan, the plan at the beginning (perhaps another one), and the priors there are."""
    wanted = chance.choice([PRIORS, PRIORS, PRIORS, ("degree", "frequency", "none"), ("vip",)])
    priors = tuple(name for name in wanted if name in known) or known
    interval = chance.choice((16, 32, 32, 32, 32, 64))
    default = Plan(prior=priors[0], interval=interval)
    if chance.random() < 0.2:
        default = default.but(window=chance.choice((2, 3, 6)), depth=chance.choice((1, 3, 4)))
    if chance.random() < 0.6:
        return default, default, priors
    prior = chance.choice(priors)
    start = default.but(
        window=chance.choice(LADDERS["window"]),
        depth=chance.choice(LADDERS["depth"]),
        buffer_share=chance.choice(LADDERS["buffer_share"]),
        prior=prior,
        half_life=128 if prior == "frequency" else 0,
    )
    return default, start, priors


def _terms(chance: random.Random, priors: tuple[str, ...]) -> Terms:
    """Those of a live run in half of the workloads, with a latency that was measured or has to be assumed."""
    as_live, known = chance.random() < 0.5, chance.random() < 0.3
    if not as_live:
        return Terms(priors=priors)
    return replace(LIVE, priors=priors, latency=None if known else ASSUMED_S)


def _as_live(evidence: Evidence, chance: random.Random, blind: bool) -> Evidence:
    """With what a live run may have and a simulated one has not: a distance to the optimum; or no shadow."""
    known = 1.0 + chance.expovariate(8.0) if chance.random() < 0.7 else None
    metrics = replace(evidence.metrics, times_min=known)
    return replace(evidence, metrics=metrics, counterfactuals={} if blind else evidence.counterfactuals)


def _next(way: str, evidence: Evidence, example: Example, chance: random.Random) -> Plan:
    space, plan = evidence.space, evidence.plan
    candidates = space.candidates(plan)
    if way == "stay":
        return plan
    if way == "shadow" and evidence.counterfactuals:
        best = min(evidence.counterfactuals, key=lambda name: evidence.counterfactuals[name])
        return space.bounded(plan, candidates[best])
    if way == "astray" and chance.random() < 0.5:
        return space.bounded(plan, candidates[chance.choice(sorted(candidates))])
    return Plan.parse(example.answer)
