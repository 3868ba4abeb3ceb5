"""Labelled decisions: what a controller knew, and what would have been best; for models to learn from.

On disk they are text, one decision a line, tabs between the columns::

    plan   numbers   best   changes   gain   weight   source

"plan" is the one in force, "numbers" the signals and counterfactuals in the order that the file's first line
gives, "best" the name of the best candidate, "changes" the best plan as what it changes ("w=3 d=4"), the rest
as in `Example`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rudder.agent.evidence import COUNTERFACTUALS, SIGNALS
from rudder.agent.prompt import plan_of
from rudder.errors import FormatError
from rudder.plan import KEYS, Plan

_KEYS = (*SIGNALS, *COUNTERFACTUALS)
_HEAD = "\t".join(("plan", " ".join(_KEYS), "best", "changes", "gain", "weight", "source"))


@dataclass(frozen=True)
class Example:
    """One decision."""

    #: As `rudder.agent.prompt.evidence_text` writes it.
    line: str
    #: Text of the best plan; it may change several knobs.
    answer: str
    #: Name (`Space.candidates`) of the best plan that changes one thing; "=": none is better.
    best: str = "="
    #: What the answer gains, as a share of the modelled time of the plan in force; >= 0.
    gain: float = 0.0
    #: How much this decision counts in training.
    weight: float = 1.0
    #: Where it comes from: a workload's name, or "drill".
    source: str = "drill"


def write(examples: Iterable[Example], path: Path) -> None:
    """Write the file."""
    rows = [_HEAD]
    for one in examples:
        numbers = signals_of(one.line)
        plan, answer = plan_of(one.line), Plan.parse(one.answer)
        rows.append(
            "\t".join(
                (
                    str(plan),
                    " ".join(str(numbers[key]) for key in _KEYS),
                    one.best,
                    _changes(plan, answer),
                    f"{one.gain:.5f}",
                    f"{one.weight:.3f}",
                    one.source,
                )
            )
        )
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def read(path: Path) -> list[Example]:
    """The examples of a file. Raises FormatError."""
    try:
        head, *rows = path.read_text(encoding="utf-8").splitlines()
        if head != _HEAD:
            raise ValueError("its first line is another: made by another version?")
        return [_read(row) for row in rows]
    except (OSError, ValueError) as error:
        raise FormatError(f"{path} is no file of labelled decisions: {error}") from None


def signals_of(line: str) -> dict[str, int]:
    """The numbers of an evidence line, by their keys."""
    words = line.partition(" | ")[2].split(" ")
    return {key: int(value) for key, _, value in (word.rpartition(":") for word in words if word)}


def _read(row: str) -> Example:
    plan, numbers, best, changes, gain, weight, source = row.split("\t")
    values = [int(number) for number in numbers.split(" ")]
    if len(values) != len(_KEYS):
        raise ValueError(f"{len(values)} numbers, not {len(_KEYS)}")
    line = f"{plan} | " + " ".join(f"{key}:{value}" for key, value in zip(_KEYS, values))
    changed = {word.partition("=")[0]: word for word in changes.split(" ") if word}
    answer = " ".join(changed.get(word.partition("=")[0], word) for word in plan.split(" "))
    Plan.parse(plan)
    Plan.parse(answer)
    return Example(line, answer, best, float(gain), float(weight), source)


def _changes(plan: Plan, answer: Plan) -> str:
    words = zip(KEYS.values(), str(answer).split(" ")[1:])
    return " ".join(word for name, word in words if getattr(plan, name) != getattr(answer, name))
