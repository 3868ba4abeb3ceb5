"""What trainers, the keeper and the worker say to each other: one JSON object a line, versioned.

::

    trainer  -> keeper   hello, then any number of asks; the newest one of a trainer replaces its older one
    keeper   -> trainer  hello, then states as they change, and an answer or a failure for an ask
    keeper   -> worker   asks, one at a time
    worker   -> keeper   ready, refused or restarting (try later), then an answer or a failure for each ask

docs/agent.md has every field with an example. Whatever is malformed raises FormatError: nothing is guessed.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Union

from rudder.agent.prompt import plan_of
from rudder.agent.space import Space
from rudder.errors import FormatError
from rudder.plan import PRIORS, Plan

#: Both ends say it first; another one ends the conversation.
VERSION = 2
#: Longest line, in bytes. An ask is a KiB or two; what is much longer was not written by us.
LONGEST_LINE = 1 << 16
#: Why there is no answer to an ask whose deadline passed, whoever noticed: it is late, and no failure.
LATE = "the deadline has passed"
#: An hour: nobody waits so long, and a selector could not.
LONGEST_DEADLINE_MS = 3.6e6


@dataclass(frozen=True)
class Hello:
    """The first line from either side."""

    version: int
    #: Who asks, for logs: "rank 3, features".
    trainer: str = ""


@dataclass(frozen=True)
class Ask:
    """A decision is wanted."""

    id: int
    #: As `rudder.agent.prompt.prompt_text` writes it; its last line begins with the plan in force.
    evidence: str
    #: The plans that may be answered; the system text follows from it and ``job``.
    space: Space
    #: Milliseconds after which nobody wants the answer any more.
    deadline_ms: float
    #: What is known of the job, as `rudder.agent.job.JobFacts.text` writes it.
    job: str = ""


@dataclass(frozen=True)
class Answer:
    """A plan of the ask's space, as text, and what it cost."""

    id: int
    plan: str
    cost: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """There is no answer to this ask, and why."""

    id: int
    reason: str
    cost: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """How the model stands: "starting", "ready", "restarting" or "refused" (for good)."""

    state: str
    reason: str = ""
    #: The load report, once there is one.
    report: dict[str, Any] = field(default_factory=dict)


Message = Union[Hello, Ask, Answer, Failed, State]
STATES = ("starting", "ready", "restarting", "refused")
_KINDS: dict[str, type[Any]] = {
    "hello": Hello,
    "ask": Ask,
    "answer": Answer,
    "failed": Failed,
    "state": State,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def to_line(message: Message) -> bytes:
    """One line, with its end."""
    values = {item.name: getattr(message, item.name) for item in fields(message)}
    if isinstance(message, Ask):
        values["space"] = {**asdict(message.space), "default": str(message.space.default)}
    text = json.dumps({"kind": _NAMES[type(message)], **values}, separators=(",", ":"))
    return text.encode("ascii") + b"\n"


def from_line(line: bytes) -> Message:
    """Inverse of `to_line`. Raises FormatError for anything else."""
    try:
        values = json.loads(line)
        kind = _KINDS[values.pop("kind")]
        if kind is Ask:
            values["space"] = _space(**values["space"])
        message: Message = kind(**values)
        _check(message)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise FormatError(f"not a message of the agent's protocol ({error!r}): {line[:80]!r}") from None
    return message


def _space(default: str, priors: list[str], rebuilds: list[str], scores: bool, shares: bool) -> Space:
    if not priors or not {*priors, *rebuilds} <= set(PRIORS):
        raise ValueError(f"priors {priors!r}, of which {rebuilds!r} can be computed anew")
    if not isinstance(scores, bool) or not isinstance(shares, bool):
        raise TypeError("scores and shares must be true or false")
    return Space(Plan.parse(default), tuple(priors), tuple(rebuilds), scores, shares)


_TYPES: dict[str, Any] = {
    "version": int,
    "trainer": str,
    "id": int,
    "evidence": str,
    "space": Space,
    "deadline_ms": (int, float),
    "job": str,
    "plan": str,
    "cost": dict,
    "reason": str,
    "state": str,
    "report": dict,
}


def _check(message: Message) -> None:
    for item in fields(message):
        value = getattr(message, item.name)
        if isinstance(value, bool) or not isinstance(value, _TYPES[item.name]):
            raise TypeError(f"{item.name} is {value!r}")
    if isinstance(message, Ask):
        plan_of(message.evidence)
        if not math.isfinite(message.deadline_ms) or message.deadline_ms > LONGEST_DEADLINE_MS:
            raise ValueError(f"deadline_ms {message.deadline_ms!r}")
    if isinstance(message, State) and message.state not in STATES:
        raise ValueError(f"state {message.state!r}")
    if isinstance(message, (Answer, Failed)):
        for name, number in message.cost.items():
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                raise TypeError(f"cost {name} is {number!r}")
            if not math.isfinite(number):
                raise ValueError(f"cost {name} is {number!r}")
