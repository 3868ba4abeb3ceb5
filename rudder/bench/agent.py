"""Decisions of controllers on workloads that no model has learned from, in the simulator; their cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from rudder.agent import lead
from rudder.agent.controller import Controller, make_controller
from rudder.bench.agent_players import AskedAhead, ModelPlayer
from rudder.bench.agent_result import DEFAULT, ORACLE, AgentReport, Outcome
from rudder.errors import ConfigError
from rudder.plan import BOUNDS, Plan
from rudder.rollout.drive import Make, drive
from rudder.rollout.generate import INTERVALS, KINDS, workload
from rudder.rollout.oracle import OracleController
from rudder.rollout.recorded import KINDS as RECORDED_KINDS
from rudder.rollout.recorded import Traces
from rudder.rollout.simulator import Simulator
from rudder.rollout.terms import LIVE
from rudder.rollout.workload import Workload

if TYPE_CHECKING:
    from rudder.agent.worker.decider import Decider

AGENT, EARLY = "agent", "agent early"
#: Intervals of the future that the greedy oracles see.
HORIZONS = (2, 4, 8)
#: What takes part where nobody says otherwise; classifiers by "classifier:KIND".
CONTROLLERS = ("rule", "shadow", "classifier:forest")
# Until a server that answers behind an address is given up.
_ANSWER_SECONDS = 120.0


@dataclass(frozen=True)
class AgentSettings:
    """What to measure."""

    #: A GGUF file or a server's address; None: controllers alone.
    model: str | None = None
    controllers: tuple[str, ...] = CONTROLLERS
    kinds: tuple[str, ...] = tuple(KINDS)
    #: Workloads of each kind.
    each: int = 4
    seed: int = 1
    #: With the guard behind every controller, as in a live run.
    guard: bool = True
    #: Of a job that the model would steer: milliseconds of a step, minibatches of an interval.
    step_ms: float = 100.0
    interval: int = 32
    #: How long a generated workload is, in intervals of 32 minibatches.
    intervals: int = INTERVALS
    #: Recorded accesses in the place of generated ones: their second halves.
    traces: Traces | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        for kind in self.kinds:
            if kind not in KINDS:
                raise ConfigError(f"workload {kind!r}: use {', '.join(KINDS)}")
        if self.each < 1 or self.step_ms <= 0:
            raise ConfigError("give at least one workload of each kind, and a step of more than 0 ms")
        if self.intervals < INTERVALS:
            raise ConfigError(
                f"workloads of {self.intervals} intervals: nothing can drift in less than {INTERVALS}"
            )
        if self.traces is not None and not set(self.kinds) & set(RECORDED_KINDS):
            raise ConfigError(f"costs of recorded accesses can be {', '.join(RECORDED_KINDS)}")


def run(settings: AgentSettings, tell: Callable[[str], None] = lambda words: None) -> AgentReport:
    """Load the model and play every workload under every controller.

    Raises ConfigError, FormatError, AgentError.

    The model's decisions take no modelled time: they are made beside the training. "agent" is asked a
    minibatch before the end of each interval, as a quick model is in a live run, "agent early" a quarter of
    the interval before, as the slowest one is that is asked at all. All on the terms of a live run
    (`rudder.rollout.terms`). The default plan needs no shadow, so it pays for none; nor does the oracle. That
    is no controller but a bound: the best of what greedy ones reach that see `HORIZONS` intervals ahead, and
    of all others.
    """
    loaded = decider(settings.model) if settings.model is not None else None
    model = ModelPlayer(loaded) if loaded is not None else None
    players: dict[str, Make] = {name: by_name(name) for name in (DEFAULT, *settings.controllers)}
    if model is not None:
        players[AGENT] = partial(asked, model, 0.0)
        players[EARLY] = partial(asked, model, 0.25)
    outcomes = []
    for load in held_out(settings):
        tell(load.name)
        outcomes += _played(load, players, settings)
    if model is None or loaded is None:
        return AgentReport(None, None, {}, None, 0, outcomes)
    taken, parts = model.total_ms, (np.median(model.prefill_ms), np.median(model.decode_ms))
    return AgentReport(
        settings.model,
        float(loaded.report.get("load_seconds", 0.0)),
        {"p50": float(np.percentile(taken, 50)), "p99": float(np.percentile(taken, 99))},
        model.valid / len(taken),
        len(taken),
        outcomes,
        [
            f"medians: {parts[0]:.1f} ms to read the prompt, {parts[1]:.1f} ms to walk to a plan",
            in_time(float(np.percentile(taken, 99)), settings),
        ],
    )


def _played(load: Workload, players: dict[str, Make], settings: AgentSettings) -> list[Outcome]:
    """Everybody on one workload, the oracle last."""
    play = partial(drive, load, plan=Plan(interval=settings.interval, prior=load.priors[0]), terms=LIVE)
    found = {
        name: play(make, shadow=name != DEFAULT, guarded=settings.guard) for name, make in players.items()
    }
    greedy = [play(partial(OracleController, horizon=ahead), shadow=False) for ahead in HORIZONS]
    found[ORACLE] = min((*greedy, *found.values()), key=lambda each: each.step_ms)
    return [
        Outcome(load.name, name, each.step_ms, each.changes, each.rolled_back) for name, each in found.items()
    ]


def by_name(name: str) -> Make:
    """Makes the controller of that name anew for each run; a classifier, which learns first, once."""
    if name.startswith("classifier"):
        return partial(given, make_controller(name))
    return partial(_named, name)


def given(controller: Controller, _: Simulator) -> Controller:
    """The same controller for every run."""
    return controller


def _named(name: str, _: Simulator) -> Controller:
    return make_controller(name)


def asked(controller: Controller, share: float, _: Simulator) -> Controller:
    """Ahead of each interval's end: see `AskedAhead`."""
    return AskedAhead(controller, share)


def in_time(decision_ms: float, settings: AgentSettings) -> str:
    """Is a decision made by the end of its interval, and if not, how long would that have to be?"""
    have = settings.step_ms * lead.most_lead(settings.interval)
    if lead.in_time(decision_ms, settings.step_ms, settings.interval):
        return f"fast enough: {decision_ms:.0f} ms at worst (p99), a quarter of an interval has {have:.0f} ms"
    needed = lead.needed_interval(decision_ms, settings.step_ms)
    if needed > BOUNDS["interval"][1]:
        return f"too slow for steps of {settings.step_ms:g} ms: no interval is long enough"
    return (
        f"too slow: {decision_ms:.0f} ms (p99), a quarter of an interval of {settings.interval} minibatches"
        f" has {have:.0f} ms: it needs an interval of at least {needed}"
    )


def decider(model: str) -> Decider:
    """The model of a GGUF file, or behind an address. Raises ConfigError, FormatError, AgentError."""
    from rudder.agent.worker.settings import WorkerSettings

    settings = WorkerSettings(model)
    if settings.is_address:
        from rudder.agent.worker.endpoint import EndpointDecider

        return EndpointDecider(model, _ANSWER_SECONDS)
    from rudder.agent.worker.local import LlamaDecider

    return LlamaDecider(model, settings.room.context)


def held_out(settings: AgentSettings) -> Iterable[Workload]:
    """Workloads that nothing was learned from."""
    seeds = range(settings.seed * 1000, settings.seed * 1000 + settings.each)
    if settings.traces is not None:
        return settings.traces.workloads(held_out=True, seeds=seeds, kinds=settings.kinds)
    return (
        workload(kind, seed, held_out=True, intervals=settings.intervals)
        for seed in seeds
        for kind in settings.kinds
    )
