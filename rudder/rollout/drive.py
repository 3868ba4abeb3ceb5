"""A controller through a whole workload, asked and guarded as in a live run, or without the guard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rudder.agent.controller import Ahead, Controller
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
    current, changes, intervals, put_back = simulator.plan, 0, 0, False
    while not simulator.done:
        evidence = simulator.step(current, rolled_back=put_back, ahead=ahead)
        put_back = False
        intervals += 1
        answer = evidence.space.bounded(simulator.plan, controller.decide(evidence))
        if guarded and simulator.shadow is not None:
            before = guard.rolled_back
            answer = guard.review(simulator.plan, answer, simulator.shadow)
            put_back = guard.rolled_back > before
        changes += answer != simulator.plan
        current = answer
    return Drive(
        workload.name,
        len(workload),
        simulator.milliseconds / len(workload),
        changes,
        intervals,
        guard.rolled_back,
        guard.refused,
    )
