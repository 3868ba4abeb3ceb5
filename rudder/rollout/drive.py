"""A controller through a whole workload, asked, guarded and put to sleep as in a live run, or without that.

What a controller costs here is its shadow's time; see `rudder.rollout.terms`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rudder.agent.balance import Balance
from rudder.agent.controller import Ahead, Controller
from rudder.agent.default import kept
from rudder.agent.guard import Guard
from rudder.plan import Plan
from rudder.rollout.simulator import Simulator
from rudder.rollout.terms import Terms
from rudder.rollout.workload import Workload

#: Makes the controller of one simulated run.
Make = Callable[[Simulator], Controller]


@dataclass(frozen=True)
class Drive:
    """How a controller went through a workload."""

    workload: str
    minibatches: int
    #: Modelled milliseconds of a step, over all.
    step_ms: float
    #: Plans that differed from the one in force; of all intervals.
    changes: int
    intervals: int
    rolled_back: int
    refused: int
    #: Intervals in which the controller slept.
    asleep: int
    #: Modelled seconds of each interval, without those of the shadow.
    seconds: tuple[float, ...]


def drive(
    workload: Workload,
    make: Make,
    *,
    guarded: bool = True,
    plan: Plan | None = None,
    terms: Terms | None = None,
    shadow: bool = True,
) -> Drive:
    """Run the workload to its end. ``make`` gets the simulator, so that an oracle can try plans on it.

    ``terms``: by default those on which decisions are labelled. Without ``shadow`` evidence has no
    counterfactuals, nothing is charged for them, and there is nothing to guard by.
    """
    simulator = Simulator(workload, plan, terms=terms, shadow=shadow)
    controller, guard = make(simulator), Guard(simulator.plan)
    ahead = controller if isinstance(controller, Ahead) else None
    balance, watched = Balance(), simulator.shadow if guarded else None
    current, changes, asleep, put_back = simulator.plan, 0, 0, False
    seconds: list[float] = []
    while not simulator.done:
        spent, asked = watched.spent if watched is not None else 0.0, not balance.asleep
        evidence = simulator.step(current, rolled_back=put_back, ahead=ahead if asked else None, asked=asked)
        put_back = False
        seconds.append(evidence.metrics.seconds_wall)
        asleep += not asked
        answer = kept(simulator.plan)
        if asked:
            answer = evidence.space.bounded(simulator.plan, controller.decide(evidence))
        if watched is not None:
            if not watched.asleep:
                before = guard.rolled_back
                answer = guard.review(simulator.plan, answer, watched)
                put_back = guard.rolled_back > before
                if not asked and guard.idle(simulator.plan, watched):
                    watched.sleep()
            if balance.add(evidence.metrics, gained=watched.gained, spent=watched.spent - spent):
                answer = kept(evidence.space.default)
            if watched.asleep and not balance.asleep:
                watched.shadow.wake()
                guard.began_anew()
        changes += answer != simulator.plan
        current = answer
    return Drive(
        workload.name,
        len(workload),
        simulator.milliseconds / len(workload),
        changes,
        len(seconds),
        guard.rolled_back,
        guard.refused,
        asleep,
        tuple(seconds),
    )
