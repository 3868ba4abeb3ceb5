"""`rudder bench agent --measured`: controllers in real time, over links as slow as the workload's.

Trainer and peer of each workload are processes in network namespaces, rows come by UCX's TCP over a link that
the kernel shapes, and becomes slower and faster while the workload runs. Beside each measured time stands the
simulator's for the same run, with the latency of such a link.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from rudder.bench.agent import AGENT, AgentSettings, asked, by_name, decider
from rudder.bench.agent_players import ModelPlayer
from rudder.bench.agent_result import DEFAULT, Interval, resampled
from rudder.bench.children import Child, job
from rudder.bench.trainer import Run
from rudder.errors import ConfigError
from rudder.launch import netns
from rudder.plan import Plan
from rudder.rollout.drive import Make, drive
from rudder.rollout.generate import workload
from rudder.rollout.terms import LIVE
from rudder.serve.secret import new_secret

if TYPE_CHECKING:
    from rich.table import Table

#: The default plan once more, at the end: what two runs of the same thing differ by.
AGAIN = "default again"
#: What can be played. The memory of a live trainer does not shrink by command.
KINDS = ("steady", "phases", "sliding", "fanout", "bandwidth")
# Of a fetch of one row over a shaped veth pair, which has no delay of its own.
_LATENCY_S = 0.0005
_PEER, _TRAINER = 0, 1  # hosts of one network


@dataclass(frozen=True)
class Measured:
    """One controller on one workload."""

    workload: str
    run: Run
    #: What the simulator says that a step takes; None for `AGAIN`.
    modelled_step_ms: float | None

    def as_json(self) -> dict[str, Any]:
        """As the file has it."""
        found = {
            f"measured_{name}" if name == "step_ms" else name: value
            for name, value in asdict(self.run).items()
        }
        return {"workload": self.workload, **found, "modelled_step_ms": self.modelled_step_ms}


def run(
    settings: AgentSettings, *, at_once: int, length: int, tell: Callable[[str], None] = lambda words: None
) -> list[Measured]:
    """Every workload under every controller, one after the other; ``at_once`` workloads beside one another.

    ``length``: minibatches of each. Raises LaunchError without root, ConfigError for workloads that cannot be
    played, and what trainers raise.
    """
    unknown = [kind for kind in settings.kinds if kind not in KINDS]
    if unknown or settings.traces is not None:
        raise ConfigError(f"--measured plays generated workloads: {', '.join(KINDS)}")
    if at_once < 1 or length < 1:
        raise ConfigError("--at-once and --length must be positive")
    netns.check_possible("1gbit")
    names = [DEFAULT, *settings.controllers, *([AGENT] if settings.model is not None else []), AGAIN]
    jobs = [
        (kind, settings.seed * 1000 + number) for number in range(settings.each) for kind in settings.kinds
    ]
    with ThreadPoolExecutor(at_once) as threads:
        measured = list(threads.map(lambda each: _measure(each, names, settings, length, tell), jobs))
    modelled = _modelled(jobs, names, settings, length)
    return [
        Measured(f"{kind}:{seed}", found, modelled.get((kind, seed, found.controller)))
        for (kind, seed), runs in zip(jobs, measured)
        for found in runs
    ]


def _measure(
    which: tuple[str, int],
    names: list[str],
    settings: AgentSettings,
    length: int,
    tell: Callable[[str], None],
) -> list[Run]:
    kind, seed = which
    request = {"kind": kind, "seed": seed, "length": length}
    request |= {"interval": settings.interval, "model": settings.model, "guard": settings.guard}
    runs = []
    with _stage(request) as (trainer, slow_down):
        for name in names:
            tell(f"{kind}:{seed} {name}")
            trainer.tell({"controller": DEFAULT if name == AGAIN else name})
            while "run" not in (heard := trainer.hear()):
                if "rate" in heard:
                    slow_down(heard["rate"])
                else:
                    trainer.tell({})
            runs.append(replace(Run(**heard["run"]), controller=name))
    return runs


@contextlib.contextmanager
def _stage(request: dict[str, Any]) -> Iterator[tuple[Child, Callable[[float], None]]]:
    """A trainer and its peer, and how to change what the peer may send."""
    secret = new_secret()
    with job() as name, netns.Network("1gbit") as network, contextlib.ExitStack() as stack:

        def start(module: str, host: int) -> Child:
            child = stack.enter_context(
                contextlib.closing(Child(module, name, secret, around=netns.isolated()))
            )
            network.attach(host, child.pid)
            return child

        peer = start("rudder.bench.peer", _PEER)
        peer.tell({"address": netns.address(_PEER), "port": 0})
        place = (netns.address(_PEER), int(peer.hear()["port"]))
        trainer = start("rudder.bench.trainer", _TRAINER)
        trainer.tell({**request, "place": place})
        yield trainer, partial(network.slow_down, peer.pid)


def _modelled(
    jobs: list[tuple[str, int]], names: list[str], settings: AgentSettings, length: int
) -> dict[tuple[str, int, str], float]:
    """Milliseconds of a step by the simulator, by kind, seed and controller."""
    players: dict[str, Make] = {name: by_name(name) for name in names if name not in (AGENT, AGAIN)}
    if settings.model is not None:
        players[AGENT] = partial(asked, ModelPlayer(decider(settings.model)), 0.0)
    found = {}
    for kind, seed in jobs:
        load = workload(kind, seed, held_out=True).until(length)
        near = replace(load, latency_s=np.full(len(load), _LATENCY_S))
        plan = Plan(interval=settings.interval, prior=near.priors[0])
        for name, make in players.items():
            driven = drive(near, make, plan=plan, terms=LIVE, shadow=name != DEFAULT, guarded=settings.guard)
            found[kind, seed, name] = driven.step_ms
    return found


def gains(found: list[Measured], controller: str, time: Callable[[Measured], float]) -> list[float]:
    """Of the time of a step under the default plan, on each workload."""
    times = {(each.workload, each.run.controller): time(each) for each in found}
    return [
        1 - times[each.workload, controller] / times[each.workload, DEFAULT]
        for each in found
        if each.run.controller == controller
    ]


def table(found: list[Measured]) -> Table:
    """One line for each controller, over all workloads."""
    from rich.table import Table

    shown = Table(box=None, pad_edge=False)
    shown.add_column("controller", no_wrap=True)
    for heading in (
        "measured gain over default",
        "median",
        "worst",
        "modelled gain",
        "plans changed",
        "late",
    ):
        shown.add_column(heading, justify="right", no_wrap=True)
    for name in dict.fromkeys(each.run.controller for each in found):
        if name == DEFAULT:
            continue
        runs = [each.run for each in found if each.run.controller == name]
        measured = np.array(gains(found, name, lambda each: each.run.step_ms))
        modelled = "-"
        if name != AGAIN:
            modelled = _share(gains(found, name, lambda each: each.modelled_step_ms or float("nan")))
        shown.add_row(
            name,
            _share(measured),
            f"{np.median(measured):+.2%}",
            f"{measured.min():+.2%}",
            modelled,
            str(sum(each.changes for each in runs)),
            str(sum(each.late for each in runs)),
        )
    return shown


def _share(gained: Any) -> str:
    values = np.asarray(gained)
    mean: Interval = resampled(lambda rows: float(values[rows].mean()), len(values))
    return f"{mean.middle:+.2%} ({mean.low:+.2%}, {mean.high:+.2%})"
