"""What a run's controllers decided and why, from the log of decisions: for programs and for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rudder.agent.evidence import COUNTERFACTUALS, SIGNALS
from rudder.decisions import OUTCOMES, find_logs, read_decisions
from rudder.errors import ConfigError
from rudder.plan import KEYS, Plan, written

# Signals that a person is shown in words: the largest ones of those that are no change.
_SHOWN = 4
_CALLED = {**COUNTERFACTUALS, "s+": "more of the host's memory", "s-": "less of the host's memory"}


def read(
    run: Path, *, tensor: str | None = None, rank: int | None = None, last: int | None = None
) -> list[dict[str, Any]]:
    """Every decision of a run's folder, rank by rank, or those of one tensor or rank; the ``last`` of each.

    Each has what its line says (`rudder.decisions`) and, under `effect`, what the interval after it measured
    and its shadow modelled; null where the run ended before, or the plan stayed. Raises ConfigError where
    nothing is found, FormatError for a damaged log.
    """
    found = []
    for path in find_logs(run):
        decisions = [
            decision
            for decision in joined(path)
            if tensor in (None, decision["tensor"]) and rank in (None, decision["rank"])
        ]
        found += decisions if last is None else decisions[-last:]
    if not found:
        asked = {"tensor": tensor, "rank": rank}
        which = "".join(f", {name} {value}" for name, value in asked.items() if value is not None)
        raise ConfigError(f"{run}{which}: no decision is written there")
    return found


def totals(decisions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Decisions by outcome, and what they cost and gained, in seconds."""
    cost = [decision["cost"] for decision in decisions]
    return {
        "decisions": len(decisions),
        **{name: sum(each["outcome"] == name for each in decisions) for name in OUTCOMES},
        **{
            name: round(sum(each.get(name, 0.0) for each in cost), 6)
            for name in ("seconds_steering", "seconds_agent", "seconds_gained")
        },
    }


def as_text(decision: dict[str, Any]) -> list[str]:
    """One decision, as lines: evidence, job, prompt, shadow, plan, effect, cost."""
    lines = [
        f"{decision['tensor']}, rank {decision['rank']}, interval {decision['interval']}:"
        f" {decision['controller']}, {decision['outcome']}"
        + (f" ({decision['reason']})" if decision["reason"] else "")
    ]
    lines.append(f"  evidence  {decision['milliseconds']:.2f} ms a step{_in_words(decision['signals'])}")
    if decision["job"]:
        lines.append(f"  job       {decision['job'].replace(chr(10), '; ')}")
    ahead = f" (asked {decision['lead']} minibatches before the end)" if decision["lead"] else ""
    lines.append(f"  prompt    {_indented(decision['prompt'])}{ahead}")
    lines.append(f"  shadow    {_shadow(decision)}")
    lines.append(f"  plan      {_plan(decision)}")
    if decision["shares"] is not None:
        lines.append(f"  share     {_share(decision['shares'])}")
    lines.append(f"  effect    {_effect(decision['effect'])}")
    cost = decision["cost"]
    lines.append(
        f"  cost      {1000 * cost.get('seconds_steering', 0.0):.2f} ms of the trainer's thread,"
        f" {1000 * cost.get('seconds_agent', 0.0):.2f} ms of CPU elsewhere"
    )
    return lines


def as_line(found: dict[str, Any]) -> str:
    """What `totals` says."""
    outcomes = ", ".join(f"{found[name]} {name}" for name in OUTCOMES if found[name])
    seconds = [found[f"seconds_{name}"] for name in ("steering", "agent", "gained")]
    return (
        f"{found['decisions']} decisions: {outcomes}; {seconds[0]:.3f} s of the trainers' threads,"
        f" {seconds[1]:.3f} s of CPU elsewhere; {seconds[2]:+.3f} s saved against the default"
        " plan, by the shadow"
    )


def joined(path: Path) -> list[dict[str, Any]]:
    """Each decision of a log, with what the line after it says of its effect. Raises FormatError, OSError."""
    lines = read_decisions(path)
    decisions = []
    for number, line in enumerate(lines):
        if line["kind"] == "end":
            continue
        after = lines[number + 1] if number + 1 < len(lines) else None
        decisions.append({**line, "effect": _measured(line, after)})
    return decisions


def _measured(line: dict[str, Any], after: dict[str, Any] | None) -> dict[str, Any] | None:
    effect = after["effect"] if after is not None else None
    if after is None or effect is None or effect["interval"] != line["interval"]:
        return None
    live, default = after.get("live_ms"), after.get("default_ms")
    return {
        "milliseconds_before": effect["milliseconds_before"],
        "milliseconds_after": effect["milliseconds_after"],
        "change": effect["change"],
        "modelled_against_default": round(live / default - 1, 4) if live and default else None,
    }


def _indented(text: str) -> str:
    """Further lines below the first one."""
    return text.replace("\n", "\n            ")


def _in_words(signals: dict[str, int]) -> str:
    shown = [name for name in SIGNALS if signals.get(name) and not SIGNALS[name].startswith("change")]
    shown.sort(key=lambda name: -abs(signals[name]))
    return "".join(f"; {name} {signals[name]} ({SIGNALS[name]})" for name in shown[:_SHOWN])


def _shadow(decision: dict[str, Any]) -> str:
    modelled = decision["counterfactuals"]
    live = modelled.get("=")
    if not live:
        return "nothing modelled"
    others = sorted((ms, name) for name, ms in modelled.items() if name != "=")
    said = [f"{100 * (ms / live - 1):+.1f}% {_CALLED.get(name, name)}" for ms, name in others]
    return f"{live:.2f} ms modelled; under other plans {', '.join(said) or 'nothing'}"


def _plan(decision: dict[str, Any]) -> str:
    before, after = Plan.parse(decision["before"]), Plan.parse(decision["after"])
    changes = [
        f"{name} {written(getattr(before, name))} -> {written(getattr(after, name))}"
        for name in KEYS.values()
        if getattr(before, name) != getattr(after, name)
    ]
    answered = decision["answers"] is not None and decision["answers"] != decision["interval"]
    about = f", the answer to interval {decision['answers']}" if answered else ""
    return f"{after} ({', '.join(changes) or 'no change'}{about})"


def _share(shares: dict[str, Any]) -> str:
    others = ", ".join(
        f"{rank} has {share}%" + (f" and waits {wait:.2f} ms a step" if wait is not None else "")
        for rank, (share, wait) in shares["trainers"].items()
    )
    return (
        f"{shares['granted']}% of its own memory, {shares['wanted']}% wanted"
        + (f" ({shares['why']})" if shares["why"] else "")
        + f"; of the host's trainers {others or 'nothing is known'}; {shares['free_rows']} rows free"
    )


def _effect(effect: dict[str, Any] | None) -> str:
    if effect is None:
        return "none to measure"
    modelled = effect["modelled_against_default"]
    return (
        f"{effect['milliseconds_before']:.2f} -> {effect['milliseconds_after']:.2f} ms a step"
        f" ({100 * effect['change']:+.1f}%)"
        + (f"; modelled, {100 * modelled:+.1f}% against the default plan" if modelled is not None else "")
    )
