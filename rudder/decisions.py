"""The log of decisions: one JSON line for each, in `decisions-<rank>.<tensor>.jsonl` of the run's folder.

Schema 1; `kind` is "decision", and "end" for the run's last, partial interval, which nobody decides on:

================  ====================================================================================
field             meaning
================  ====================================================================================
tensor, rank      whose; controller: its name
interval          the interval that ended: what the evidence is about (as in `rudder.metrics`)
minibatches       of it; milliseconds: measured, a step
lead              minibatches before its end at which the controller was asked; 0: at its end, or not asked
signals           what the interval was until then, as whole numbers, see `rudder.agent.evidence`
job               what is known of the job; a language model's system text begins with it
prompt            the lines that a language model reads behind its system text
counterfactuals   modelled milliseconds a step of that interval under other plans, by the names of
                  `Space.candidates`; {}: there is no shadow, or it knows nothing yet
live_ms           modelled milliseconds a step of the run; default_ms: had the default plan been in force
                  from the beginning. null: not modelled, or not now
before            the plan that was in force
answer            the controller's plan; null: there was none
answers           interval whose evidence the answer is about; null: there was none
after             the plan in force from now on
outcome           one of OUTCOMES
late, refused     whether an answer came too late, or could not be used; rolled_back: by the guard
reason            why, in words; "" where there is nothing to say
effect            what this interval says of the decision before it: its `interval`,
                  `milliseconds_before` and `milliseconds_after`, and `change`, their ratio less 1; null
                  where that decision changed nothing
shares            where trainers trade memory: the share `wanted` and the one `granted`, in percent of the
                  trainer's own memory; `why`; `free_rows` of the host; its `trainers`, each with its share
                  and the milliseconds of a step that it waits (null: not known). null: elsewhere
cost              seconds_steering, seconds_agent and seconds_gained of this interval, agent_bytes
================  ====================================================================================
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rudder.agent.evidence import Evidence, step_milliseconds
from rudder.agent.prompt import prompt_text
from rudder.agent.trade import without_share
from rudder.errors import ConfigError, FormatError
from rudder.metrics import SCHEMA, IntervalMetrics
from rudder.plan import Plan
from rudder.run_folder import DECISIONS

#: What may become of a decision, in the words of the log.
OUTCOMES = {
    "adopted": "the answer changed the plan",
    "kept": "the answer was the plan in force",
    "none": "no answer had come",
    "late": "an answer came too late",
    "refused": "the answer could not be used",
    "kept out": "the guard did not let the answer into force",
    "rolled back": "the guard put the default plan back",
    "asleep": "the controller was not asked",
}
# Fields that explain needs, and their types.
_TYPES: dict[str, tuple[type, ...]] = {
    "tensor": (str,),
    "rank": (int,),
    "controller": (str,),
    "interval": (int,),
    "minibatches": (int,),
    "milliseconds": (int, float),
    "lead": (int,),
    "signals": (dict,),
    "job": (str,),
    "prompt": (str,),
    "counterfactuals": (dict,),
    "live_ms": (int, float, type(None)),
    "default_ms": (int, float, type(None)),
    "before": (str,),
    "answer": (str, type(None)),
    "answers": (int, type(None)),
    "after": (str,),
    "outcome": (str,),
    "late": (bool,),
    "refused": (bool,),
    "rolled_back": (bool,),
    "reason": (str,),
    "effect": (dict, type(None)),
    "shares": (dict, type(None)),
    "cost": (dict,),
}
_END = ("tensor", "rank", "interval", "minibatches", "milliseconds", "effect")
# What to do about a log that is whole, and yet not one that this Rudder has written.
_ELSEWHERE = "another version of Rudder wrote this log: read it with that one, or run the job again"
_SHARES = {"wanted": int, "granted": int, "free_rows": int, "why": str, "trainers": dict}
_EFFECT = ("interval", "milliseconds_before", "milliseconds_after", "change")


def evidence_values(
    evidence: Evidence,
    live_ms: float | None = None,
    default_ms: float | None = None,
    *,
    asked: Evidence | None = None,
) -> dict[str, Any]:
    """The part of a line that is known before the decision.

    ``asked``: of what the interval was when the controller was asked, where that was before its end.
    """
    told = asked or evidence
    return {
        **interval_values(evidence.metrics),
        "lead": evidence.metrics.minibatches - asked.metrics.minibatches if asked is not None else 0,
        "signals": told.signals(),
        "job": told.job.text(),
        "prompt": prompt_text(without_share(told)),
        "counterfactuals": {name: round(ms, 4) for name, ms in told.counterfactuals.items()},
        "live_ms": None if live_ms is None else round(live_ms, 4),
        "default_ms": None if default_ms is None else round(default_ms, 4),
        "before": str(evidence.plan),
    }


def interval_values(metrics: IntervalMetrics) -> dict[str, Any]:
    """What every line says of its interval."""
    return {
        "tensor": metrics.tensor,
        "rank": metrics.rank,
        "interval": metrics.interval,
        "minibatches": metrics.minibatches,
        "milliseconds": round(step_milliseconds(metrics), 4),
    }


def effect(before: IntervalMetrics | None, after: IntervalMetrics) -> dict[str, Any] | None:
    """What the change of plan between two intervals brought; None where there was none, or no step."""
    if before is None or before.plan == after.plan or not after.minibatches:
        return None
    earlier, later = step_milliseconds(before), step_milliseconds(after)
    return {
        "interval": before.interval,
        "milliseconds_before": round(earlier, 4),
        "milliseconds_after": round(later, 4),
        "change": round(later / earlier - 1, 4) if earlier else 0.0,
    }


def read_decisions(path: Path) -> list[dict[str, Any]]:
    """Every line of a log, checked. Raises FormatError, OSError.

    A last line without its end, which a killed process leaves, is left out.
    """
    lines = path.read_bytes().split(b"\n")
    return [_checked(path, number, line) for number, line in enumerate(lines[:-1], 1)]


def find_logs(run: Path) -> list[Path]:
    """The logs of a run's folder, rank by rank. Raises ConfigError where there is none."""
    if not run.is_dir():
        raise ConfigError(f"{run} is no folder: name one that `rudder launch --out` or metrics_dir= filled")
    found = sorted(run.glob(f"{DECISIONS}-*.jsonl"), key=lambda path: (len(path.name), path.name))
    if not found:
        raise ConfigError(
            f"{run} has no {DECISIONS}-*.jsonl: nothing steered this run, or it is no run's folder"
        )
    return found


def _checked(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        values = json.loads(line)
        if not isinstance(values, dict):
            raise ValueError("it is not a JSON object")
        if values.get("schema") != SCHEMA:
            raise ValueError(
                f"it is of schema {values.get('schema')!r}; this Rudder reads {SCHEMA}; {_ELSEWHERE}"
            )
        if values.get("kind") not in ("decision", "end"):
            raise ValueError(f"its kind is {values.get('kind')!r}")
        wanted = _TYPES if values["kind"] == "decision" else _END
        missing = [name for name in wanted if name not in values]
        if missing:
            raise ValueError(f"{', '.join(missing)} missing; {_ELSEWHERE}")
        for name in wanted:
            kinds, value = _TYPES[name], values[name]
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise ValueError(f"{name} is {value!r}")
        _check_numbers("effect", values["effect"] or {}, _EFFECT if values["effect"] else ())
        if values["kind"] == "decision":
            _check_plans(values)
            _check_shares(values["shares"])
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}, line {number}: {error}") from None
    return values


def _check_plans(values: dict[str, Any]) -> None:
    for name in ("before", "answer", "after"):
        if values[name] is not None:
            Plan.parse(values[name])
    if values["outcome"] not in OUTCOMES:
        raise ValueError(f"outcome is {values['outcome']!r}")
    for name in ("signals", "counterfactuals", "cost"):
        _check_numbers(name, values[name])


def _check_shares(values: Any) -> None:
    if values is None:
        return
    for name, kind in _SHARES.items():
        if not isinstance(values, dict) or not isinstance(values.get(name), kind):
            raise ValueError(f"shares is {values!r}")
    for share, wait in values["trainers"].values():
        _check_numbers("shares", {"share": share, "wait": 0 if wait is None else wait})


def _check_numbers(name: str, values: dict[str, Any], wanted: tuple[str, ...] = ()) -> None:
    for key in (*wanted, *values):
        number = values.get(key)
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise ValueError(f"{key} of {name} is {number!r}")
