"""Runs the two variants of the demonstration, one after the other, as real DistDGL jobs."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rudder.agent.controller import check_controller
from rudder.agent.worker.settings import PILOT, is_address
from rudder.config import rows_of_capacity
from rudder.demo import meter
from rudder.demo.parts import Parts
from rudder.demo.settings import DemoSettings
from rudder.errors import ConfigError, LaunchError
from rudder.integrations.dgl_routes import parse_ladder
from rudder.launch import Job, Line, run_local
from rudder.launch.job import StopRequest
from rudder.launch.netns import check_possible
from rudder.launch.start import run_namespaces
from rudder.plan import Plan

VARIANTS = ("stock", "rudder")
_SCRIPT = Path(__file__).with_name("train.py")


@dataclass(frozen=True)
class Run:
    """One variant's run: what each trainer found (see `train`), in the order of ranks."""

    variant: str
    trainers: list[dict[str, Any]]
    #: Of the whole job, start-up and evaluation included.
    seconds: float


def check(settings: DemoSettings) -> None:
    """Refuse what could only fail once the first run is over. Raises ConfigError; LaunchError where this
    machine cannot run it."""
    from rudder import _core

    if settings.policy not in _core.policy_names():
        raise ConfigError(f"--policy {settings.policy!r}: use {', '.join(_core.policy_names())}")
    check_controller(controller_of(settings)[0])
    ladder = parse_ladder(settings.transport)
    rows_of_capacity(settings.capacity, halo_rows=1, remote_rows=1, row_bytes=1)
    if settings.depth is not None:
        Plan(depth=settings.depth)
    if settings.rate is not None:
        if ladder == ("shm",):
            raise ConfigError(
                "--rate gives each host a shared memory of its own: --transport shm cannot reach it"
            )
        check_possible(settings.rate)


def controller_of(settings: DemoSettings) -> tuple[str, str]:
    """The name of the run's controller; and why it is not the agent, where nobody named another one."""
    if settings.controller is not None:
        return settings.controller, ""
    if settings.agent_model is None and not PILOT.is_file():
        return "default", "no model comes with this package; --agent-model names one"
    if importlib.util.find_spec("llama_cpp") is None and not is_address(settings.agent_model or ""):
        return "default", "llama-cpp-python is not installed; pip install 'rudder-gnn[agent]' brings it"
    return "agent", ""


def run(
    settings: DemoSettings,
    parts: Parts,
    variant: str,
    folder: Path,
    *,
    on_news: Callable[[dict[str, Any]], None] = lambda news: None,
    stop: StopRequest | None = None,
) -> Run:
    """Run one of VARIANTS; its files go to ``folder/<variant>``, what it writes to ``folder/<variant>.log``.

    on_news: called with what the first trainer tells of its progress. Raises LaunchError where a process
    failed, or the job was stopped.
    """
    with_rudder = variant == "rudder"
    out = folder / variant
    out.mkdir(parents=True, exist_ok=True)
    for leftover in out.glob("trainer-*.json"):
        leftover.unlink()
    job = Job(
        script=str(_SCRIPT),
        args=[parts.graph, "--out", str(out.resolve()), *_arguments(settings, with_rudder)],
        part_config=str(parts.part_config),
        trainers=settings.trainers,
        feature_servers=with_rudder,
        out=str(out),
        record=str(settings.record) if with_rudder and settings.record else None,
        controller=controller_of(settings)[0] if with_rudder else "",
        agent_model=settings.agent_model or "" if with_rudder else "",
        agent_context=settings.agent_context if with_rudder else None,
        agent_threads=settings.agent_threads if with_rudder else None,
        share_memory=settings.share_memory and with_rudder,
    )
    # By lines: who follows the log sees what has happened, not what fills a block.
    with (folder / f"{variant}.log").open("w", encoding="utf-8", buffering=1) as log:

        def hear(line: Line) -> None:
            news = meter.told(line.text)
            if news is None:
                log.write(f"[{line.process}] {line.text}\n")
            else:
                on_news(news)

        if settings.rate is None:
            result = run_local(job, settings.hosts, on_line=hear, stop=stop)
        else:
            result = run_namespaces(job, settings.hosts, rate=settings.rate, on_line=hear, stop=stop)
    if not result.ok:
        raise LaunchError(f"the run {'with Rudder' if with_rudder else 'without Rudder'}: {result.reason}")
    ranks = range(settings.hosts * settings.trainers)
    found = [json.loads((out / f"trainer-{rank}.json").read_text(encoding="utf-8")) for rank in ranks]
    return Run(variant, found, result.seconds)


def _arguments(settings: DemoSettings, with_rudder: bool) -> list[str]:
    arguments: dict[str, Any] = {
        "epochs": settings.epochs,
        "fanout": ",".join(map(str, settings.fanout)),
        "batch-size": settings.batch_size,
        "seed": settings.seed,
    }
    if with_rudder:
        arguments |= {
            "capacity": settings.capacity,
            "policy": settings.policy,
            "transport": settings.transport,
            "window": settings.window,
            "depth": settings.depth,
        }
    words = [f"--{name}={value}" for name, value in arguments.items() if value is not None]
    flags = ["--rudder"] * with_rudder + ["--verify"] * (with_rudder and settings.verify)
    return words + flags
