"""The contract of a controller: the evidence of one interval in, the next interval's plan out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Union, runtime_checkable

from rudder.agent.evidence import Evidence
from rudder.errors import ConfigError
from rudder.metrics import IntervalMetrics
from rudder.plan import Plan


@runtime_checkable
class Controller(Protocol):
    """Steers one attached tensor.

    `decide` is called on the trainer's thread at the end of every interval, so it must return quickly: one
    that thinks for long does so elsewhere and answers `evidence.plan` (no change) until it is done.
    Whatever it raises or wrongly returns is counted, and the last good plan stays. A prior is computed anew,
    also on the trainer's thread, only where the answer says `rebuild`, which the plan in force never says.
    Controllers of a name choose inside `evidence.space`; an object may answer any plan. One that has a method
    `close()` is closed with the tensor.
    """

    def decide(self, evidence: Evidence) -> Plan:
        """The plan for the next interval; `evidence.plan` is the one in force."""
        ...


@runtime_checkable
class Ahead(Protocol):
    """A controller that thinks elsewhere, and is asked a little before the boundary.

    In each interval, from `rudder.agent.lead.most_lead` on, it is told what the interval has been and says
    how long before the boundary it wants to be asked; then it is, and goes on thinking while the trainer
    does. `decide` at the boundary answers what has come. All three on the trainer's thread, at once.
    """

    def lead(self, metrics: IntervalMetrics) -> int:
        """Minibatches before the boundary at which to ask; ``metrics``: of the interval so far."""
        ...

    def ask(self, evidence: Evidence) -> None:
        """Think about the interval so far; the plan in force has been in force in all of it."""
        ...


@dataclass(frozen=True)
class Report:
    """What a controller that thinks elsewhere tells of itself: totals since its start, and how it stands."""

    #: Plans that came in time; plans that came when nobody wanted them any more, and were dropped; asks that
    #: ended without a plan (an error, garbage).
    valid: int = 0
    late: int = 0
    failed: int = 0
    #: The interval whose evidence the last valid plan answers, and how long that took. None: there is none.
    answered: int | None = None
    decision_ms: float = 0.0
    #: CPU time that its asks took of another process, and what that process occupies.
    cpu_seconds: float = 0.0
    memory_bytes: int = 0
    #: In a few words, for people: "ready", "restarting: it was killed".
    state: str = ""


@runtime_checkable
class Reporting(Protocol):
    """A controller whose answers come from elsewhere.

    Its `decide` answers the plan in force where nothing has come, so only its report tells what has.
    """

    def report(self) -> Report:
        """As of now. Must return at once."""
        ...


#: A controller, or the name of one.
ControllerLike = Union[str, Controller]


#: Names of controllers, and what each does.
CONTROLLERS = {
    "default": "changes nothing: the plan that the run started with stays",
    "rule": "two rules: depth follows the wait for rows, the window the memory of waiting blocks",
    "shadow": "the fastest of several plans, by a model of the past interval; no language model",
    "agent": "a language model in a process of its own, through llama.cpp (docs/agent.md)",
    "classifier": "scikit-learn, learned from labelled decisions; classifier:KIND names the classifier",
}
#: The classifier where no kind is named.
CLASSIFIER = "forest"


def check_controller(which: ControllerLike) -> None:
    """Raise ConfigError for what `make_controller` could not make."""
    if not isinstance(which, str):
        if not callable(getattr(which, "decide", None)):
            raise ConfigError(f"controller {which!r} has no method decide(evidence) -> Plan")
        return
    name, kind = named(which)
    if name == "oracle":
        raise ConfigError("controller 'oracle' knows the future: it steers replays, and no live run")
    if name not in CONTROLLERS or (kind and name != "classifier"):
        raise ConfigError(f"controller {which!r}: use {', '.join(CONTROLLERS)}, or an object with decide()")
    if name == "classifier":
        from rudder.agent.classifier import KINDS

        if kind not in ("", *KINDS):
            raise ConfigError(
                f"controller {which!r}: use classifier, or classifier:KIND of {', '.join(KINDS)}"
            )


def named(which: str) -> tuple[str, str]:
    """The name and the kind of "name" or "name:kind"."""
    name, _, kind = which.partition(":")
    return name, kind


def make_controller(which: ControllerLike, *, model: str | None = None) -> Controller:
    """The controller of that name (see `CONTROLLERS`), or the object itself. Raises ConfigError.

    ``model``: the agent's GGUF file or address (None: RUDDER_AGENT_MODEL, else the model that comes with
    the package), or the labelled decisions that a classifier learns from (None: those that come with the
    package).
    """
    check_controller(which)
    if not isinstance(which, str):
        return which
    name, kind = named(which)
    if name == "rule":
        from rudder.agent.rule import RuleController

        return RuleController()
    if name == "shadow":
        from rudder.agent.shadow import ShadowController

        return ShadowController()
    if name == "agent":
        from rudder.agent.llm import AgentController, settings_here

        return AgentController(settings_here(model))
    if name == "classifier":
        from rudder.agent.classifier import SHIPPED, ClassifierController
        from rudder.agent.llm import ENV_MODEL

        model = model or os.environ.get(ENV_MODEL)
        return ClassifierController(kind or CLASSIFIER, Path(model) if model else SHIPPED)
    from rudder.agent.default import DefaultController

    return DefaultController()
