"""Labelled decisions from the logs of real runs, for classifiers that learn from one's own jobs.

What would have been best is known afterwards, where the plan stayed: the shadow's counterfactuals of the
interval that followed say what each candidate would have taken in it. Decisions that changed the plan are
left out, since those of the next interval are about another one.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rudder.agent.examples import Example
from rudder.agent.prompt import evidence_line
from rudder.agent.space import Space
from rudder.decisions import find_logs, read_decisions
from rudder.pilot.drill import MARGIN, answer_of
from rudder.plan import Plan

_PRIORS = ("vip", "degree", "frequency", "none")


def collect(runs: Iterable[Path]) -> list[Example]:
    """Decisions of these runs' folders, in order. Raises ConfigError, FormatError."""
    found = []
    for run in runs:
        for log in find_logs(run):
            lines = [line for line in read_decisions(log) if line["kind"] == "decision"]
            for now, after in zip(lines, lines[1:]):
                example = _labelled(now, after, f"{run.name}/{log.stem}")
                if example is not None:
                    found.append(example)
    return found


def _labelled(now: dict[str, Any], after: dict[str, Any], source: str) -> Example | None:
    times = after["counterfactuals"]
    stay = times.get("=", 0.0)
    same = now["before"] == now["after"] == after["before"]
    if not same or after["interval"] != now["interval"] + 1 or stay <= 0:
        return None
    plan = Plan.parse(now["before"])
    scores = "y" in times
    space = Space(priors=_PRIORS, scores=scores)
    promised = {name: round(1000 * (ms - stay) / stay) for name, ms in times.items() if name != "="}
    best = min(promised, key=lambda name: promised[name], default="=")
    if promised.get(best, 0) > -MARGIN:
        best = ("y" if plan.replace else "n") if scores else "="
    answer = plan.but(replace=best == "y") if scores else answer_of(space, plan, promised)
    gain = max(0, -promised.get(best, 0)) / 1000
    return Example(evidence_line(now["prompt"]), str(answer), best, gain, source=source)
