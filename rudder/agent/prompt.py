"""What a language model is told: a system text that stays, and a short line for each decision.

The system text is the same for a whole job, so that its keys and values are computed once and kept. All that
changes from interval to interval is in one line of short integers; the order never changes.
"""

from __future__ import annotations

from rudder.agent.evidence import COUNTERFACTUALS, SIGNALS, Evidence
from rudder.agent.space import LADDERS, Space
from rudder.plan import Plan

_KNOBS = {
    "w": "window: sample ahead until so many buffers of requests wait. Wider moves fewer rows; takes memory.",
    "d": "depth: minibatches fetched ahead. Deeper hides latency; staged rows take memory.",
    "m": "percent of the memory for buffered rows; the rest is for sampled blocks that wait in the window.",
    "s": "percent of its own memory that this trainer takes; the rest is another trainer's.",
    "p": "prior: worth of rows beyond the window. Matters where the window is narrow.",
    "h": "half-life of counted accesses in minibatches, prior frequency only.",
    "b": "1: compute the prior anew. Pays when what is trained on has changed; costs time.",
    "i": "minibatches until the next decision.",
    "r": "1: replace rows of the buffer in the next interval.",
    "f": "percent of the buffer that one replacement may exchange.",
}


def system_text(space: Space) -> str:
    """The static part, for instruct models: the job, every signal, every knob and the rules."""
    signals = "\n".join(f"{key}: {meaning}" for key, meaning in SIGNALS.items())
    modelled = "\n".join(f"{key}: {meaning}" for key, meaning in COUNTERFACTUALS.items())
    knobs = "\n".join(f"{key}: {meaning}{_values(key, space)}" for key, meaning in _KNOBS.items())
    return (
        "You steer the prefetching of node features in distributed GNN training. A buffer of fixed size keeps"
        " remote rows; minibatches are sampled ahead into a window; rows are fetched before they are needed."
        " After each interval you read one line of whole numbers and answer with the next plan, to make the"
        " time of a step as short as possible.\n\n"
        f"Signals, in percent where not said otherwise:\n{signals}\n\n"
        "Modelled time of a step under other plans, in tenths of a percent against the plan in force;"
        f" negative is faster, 0 is equal or not known:\n{modelled}\n\n"
        f"Knobs of a plan:\n{knobs}\n\n"
        "Rules: change what the numbers speak for, and nothing else. A knob moves by one step at a time. Keep"
        " the plan where nothing is faster by at least 5 tenths of a percent. Answer with the plan alone.\n\n"
        f"The default plan: {space.default}"
    )


def evidence_text(evidence: Evidence) -> str:
    """The line of one decision: the plan in force, every signal, every counterfactual."""
    numbers = " ".join(f"{key}:{value}" for key, value in evidence.signals().items())
    return f"{evidence.plan} | {numbers}"


def plan_of(line: str) -> Plan:
    """The plan that an `evidence_text` begins with. Raises ConfigError."""
    return Plan.parse(line.partition(" | ")[0])


def _values(key: str, space: Space) -> str:
    if key == "p":
        return f" One of {', '.join(space.priors)}."
    ladder = {"w": "window", "d": "depth", "m": "buffer_share", "s": "share", "i": "interval"}.get(key)
    return f" One of {', '.join(map(str, LADDERS[ladder]))}." if ladder else ""
