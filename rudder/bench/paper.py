"""The paper's mode: policy `score`, and a controller that says yes or no to replacement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from rudder.agent.classifier import ClassifierController
from rudder.agent.controller import Ahead
from rudder.bench.agent import AGENT, AgentSettings, asked, by_name, decider, given, held_out
from rudder.bench.agent_players import ModelPlayer
from rudder.bench.agent_result import ORACLE
from rudder.pilot.gather import Amount, gather
from rudder.plan import Plan
from rudder.policies import SCORE
from rudder.rollout.drive import Make
from rudder.rollout.oracle import OracleController
from rudder.rollout.simulator import Simulator

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class PaperOutcome:
    """One controller over all workloads."""

    controller: str
    #: Of remote rows requested.
    hit_rate: float
    rows_moved: int
    #: Part of these that replacements moved.
    rows_replaced: int
    #: Intervals decided on, and how many of them got a yes.
    decisions: int
    yes: int
    #: Mean over workloads of a step's modelled time, of what it is when replacement is always allowed.
    relative_time: float


def run(settings: AgentSettings, tell: Callable[[str], None] = lambda words: None) -> list[PaperOutcome]:
    """Every controller on every workload, and three that need no model: always, never, and the oracle.

    Classifiers learn from decisions of other workloads, which are played and labelled first. The model is
    asked a minibatch before the end of each interval, as a quick one is in a live run.
    """
    players: dict[str, Make] = {"always": partial(given, _Says(True)), "never": partial(given, _Says(False))}
    if settings.model is not None:
        players[AGENT] = partial(asked, ModelPlayer(decider(settings.model)), 0.0)
    learned = [name for name in settings.controllers if name.startswith("classifier:")]
    if learned:
        lessons = gather(Amount(_LESSONS, settings.seed, scores=True), 1, tell)
    for name in settings.controllers:
        if name in learned:
            players[name] = partial(given, ClassifierController(name.partition(":")[2], lessons))
        else:
            players[name] = by_name(name)
    players[ORACLE] = OracleController
    plan = Plan(interval=settings.interval, prior="degree")
    times: dict[str, list[float]] = {name: [] for name in players}
    sums = {name: dict.fromkeys(_COUNTED, 0) for name in players}
    for load in held_out(settings):
        tell(load.name)
        for name, make in players.items():
            simulator = Simulator(load, plan, policy=SCORE)
            _play(simulator, make, sums[name])
            times[name].append(simulator.milliseconds)
    return [_outcome(name, sums[name], times[name], times["always"]) for name in players]


# Workloads from which classifiers learn: 15 decisions each.
_LESSONS = 22
_COUNTED = ("rows_requested", "rows_hit", "rows_moved", "rows_replaced", "decisions", "yes")


class _Says:
    """The same answer always."""

    def __init__(self, replace: bool) -> None:
        self._replace = replace

    def decide(self, evidence: Any) -> Plan:
        plan: Plan = evidence.plan
        return plan.but(replace=self._replace)


def _play(simulator: Simulator, make: Make, counts: dict[str, int]) -> None:
    controller, plan = make(simulator), simulator.plan
    ahead = controller if isinstance(controller, Ahead) else None
    while True:
        evidence = simulator.step(plan, ahead=ahead)
        for name in _COUNTED[:4]:
            counts[name] += getattr(evidence.metrics, name)
        if simulator.done:
            return
        plan = evidence.space.bounded(simulator.plan, controller.decide(evidence))
        counts["decisions"] += 1
        counts["yes"] += plan.replace


def _outcome(name: str, counts: dict[str, int], own: list[float], always: list[float]) -> PaperOutcome:
    return PaperOutcome(
        name,
        counts["rows_hit"] / max(1, counts["rows_requested"]),
        counts["rows_moved"],
        counts["rows_replaced"],
        counts["decisions"],
        counts["yes"],
        sum(mine / theirs for mine, theirs in zip(own, always)) / len(own),
    )


def as_json(outcomes: Sequence[PaperOutcome]) -> list[dict[str, Any]]:
    """For `--json`."""
    return [asdict(each) for each in outcomes]


def table(outcomes: Sequence[PaperOutcome]) -> Table:
    """One line for each controller."""
    from rich.table import Table

    found = Table(box=None, pad_edge=False)
    found.add_column("controller", no_wrap=True)
    for heading in ("hit rate", "rows moved", "by replacement", "decisions", "yes", "time, of always"):
        found.add_column(heading, justify="right", no_wrap=True)
    for each in outcomes:
        found.add_row(
            each.controller,
            f"{each.hit_rate:.1%}",
            f"{each.rows_moved:,}",
            f"{each.rows_replaced:,}",
            str(each.decisions),
            f"{each.yes / max(1, each.decisions):.0%}",
            f"{each.relative_time:.3f}",
        )
    return found
