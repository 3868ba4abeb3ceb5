"""The best answer to one interval's evidence, by trying plans on what really comes next."""

from __future__ import annotations

from collections.abc import Callable

from rudder.agent.evidence import Evidence
from rudder.agent.examples import Example
from rudder.agent.prompt import evidence_text
from rudder.agent.space import Space
from rudder.plan import KEYS, Plan

#: Intervals for which an answer must be the best: one alone never pays for computing a prior.
HORIZON = 4
#: An answer must gain so much to be one: less is within what a model of time can say.
WORTH_IT = 0.005
#: And each further change beside the best one so much more.
WORTH_ADDING = 0.002
# The heaviest and the lightest examples: one where nothing is at stake still teaches to leave things alone.
_LIGHTEST, _HEAVIEST, _PER_SHARE = 0.25, 3.0, 50.0

#: Modelled milliseconds a step of what comes next under a plan.
Cost = Callable[[Plan], float]


def label(evidence: Evidence, cost: Cost, source: str) -> Example:
    """The example of this decision. Tries each candidate once, and a few combinations of the good ones."""
    space, plan = evidence.space, evidence.plan
    tried = {name: (each, cost(each)) for name, each in reachable(space, plan).items()}
    stay = tried["="][1]
    best = min(tried, key=lambda name: tried[name][1])
    middle = sorted(time for _, time in tried.values())[len(tried) // 2]
    answer, time = tried["="]
    if stay > 0 and tried[best][1] <= stay * (1 - WORTH_IT):
        answer, time = _combined(space, plan, tried, cost)
    else:
        best = "="
    # Half of all wrong answers would lose more.
    at_stake = (middle - time) / stay if stay > 0 else 0.0
    return Example(
        evidence_text(evidence),
        str(answer),
        best,
        (stay - time) / stay if stay > 0 else 0.0,
        min(_HEAVIEST, _LIGHTEST + _PER_SHARE * at_stake),
        source,
    )


def reachable(space: Space, plan: Plan) -> dict[str, Plan]:
    """The candidates as they may follow ``plan`` (one step a knob), each once, "=" first."""
    found: dict[str, Plan] = {}
    for name, candidate in space.candidates(plan).items():
        nearest = space.bounded(plan, candidate)
        if nearest not in found.values():
            found[name] = nearest
    return found


def _combined(
    space: Space, plan: Plan, tried: dict[str, tuple[Plan, float]], cost: Cost
) -> tuple[Plan, float]:
    """From the best candidate on, add the changes of the next ones while that gains."""
    ranked = sorted(tried.values(), key=lambda each: each[1])
    stay = tried["="][1]
    answer, time = ranked[0]
    for candidate, alone in ranked[1:]:
        if alone > stay * (1 - WORTH_ADDING):
            break
        both = _merged(space, plan, answer, candidate)
        if both is None:
            continue
        together = cost(both)
        if together <= time - stay * WORTH_ADDING:
            answer, time = both, together
    return answer, time


def _merged(space: Space, plan: Plan, first: Plan, second: Plan) -> Plan | None:
    """Both changes of ``plan`` in one; None where they exclude each other."""
    changes = {}
    for name in KEYS.values():
        if getattr(second, name) == getattr(plan, name):
            continue
        if getattr(first, name) not in (getattr(plan, name), getattr(second, name)):
            return None
        changes[name] = getattr(second, name)
    merged = space.bounded(plan, first.but(**changes))
    return None if merged == first else merged
