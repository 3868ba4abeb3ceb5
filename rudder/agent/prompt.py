"""What a language model is told: a system text that stays, and a few lines for each decision.

The system text is the same for a whole job, so that its keys and values are computed once and kept. What
changes from interval to interval comes behind it: a line for each of the last intervals and for each of the
last changes of plan, and at last the evidence, one line of short integers whose order never changes. That
line says enough for a decision; the pilot reads it alone.
"""

from __future__ import annotations

from rudder.agent.evidence import COUNTERFACTUALS, SIGNALS, Decision, Evidence, step_milliseconds
from rudder.agent.space import LADDERS, Space
from rudder.metrics import IntervalMetrics
from rudder.plan import KEYS, Plan, written

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


def system_text(space: Space, job: str = "") -> str:
    """The static part, for instruct models: the job, every signal, every knob and the rules.

    ``job``: what `JobFacts.text` says of it.
    """
    facts = f"The job:\n{job}\n\n" if job else ""
    signals = "\n".join(f"{key}: {meaning}" for key, meaning in SIGNALS.items())
    modelled = "\n".join(f"{key}: {meaning}" for key, meaning in COUNTERFACTUALS.items())
    knobs = "\n".join(f"{key}: {meaning}{_values(key, space)}" for key, meaning in _KNOBS.items())
    return (
        "You steer the prefetching of node features in distributed GNN training. A buffer of fixed size keeps"
        " remote rows; minibatches are sampled ahead into a window; rows are fetched before they are needed."
        " After each interval you read what the last intervals were, what the last changes of plan"
        " brought, and at last one line of whole numbers. Answer with the next plan, to make the time of a"
        " step as short as possible.\n\n"
        f"{facts}"
        f"Signals, in percent where not said otherwise:\n{signals}\n\n"
        "Modelled time of a step under other plans, in tenths of a percent against the plan in force;"
        f" negative is faster, 0 is equal or not known:\n{modelled}\n\n"
        f"Knobs of a plan:\n{knobs}\n\n"
        "Rules: change what the numbers speak for, and nothing else. A knob moves by one step at a time. Keep"
        " the plan where nothing is faster by at least 5 tenths of a percent. Answer with the plan alone.\n\n"
        f"The default plan: {space.default}"
    )


def prompt_text(evidence: Evidence) -> str:
    """What changes from decision to decision: trend, last changes of plan, and last the evidence line."""
    lines = [f"interval {each.interval}: {_as_it_was(each)}" for each in evidence.recent]
    lines += [line for change in evidence.history if (line := _as_it_went(change))]
    return "\n".join([*lines, evidence_text(evidence)])


def evidence_line(prompt: str) -> str:
    """The line of evidence in what `prompt_text` wrote."""
    return prompt.rpartition("\n")[2]


def evidence_text(evidence: Evidence) -> str:
    """The line of one decision: the plan in force, every signal, every counterfactual."""
    numbers = " ".join(f"{key}:{value}" for key, value in evidence.signals().items())
    return f"{evidence.plan} | {numbers}"


def plan_of(prompt: str) -> Plan:
    """The plan in force, which the line of evidence begins with. Raises ConfigError."""
    return Plan.parse(evidence_line(prompt).partition(" | ")[0])


def _as_it_was(metrics: IntervalMetrics) -> str:
    wall, steps = metrics.seconds_wall, max(1, metrics.minibatches)
    waited = round(100 * metrics.seconds_stalled / wall) if wall else 0
    return (
        f"{step_milliseconds(metrics):.2f} ms a step, {waited}% of it waiting,"
        f" {metrics.rows_moved / steps:.0f} of {metrics.rows_requested / steps:.0f} remote rows moved a step"
    )


def _as_it_went(change: Decision) -> str:
    """ "" where only the share of memory changed: that is traded between trainers, not decided here."""
    changes = [
        f"{key} {written(getattr(change.plan, name))} -> {written(getattr(change.after, name))}"
        for key, name in KEYS.items()
        if key != "s" and getattr(change.plan, name) != getattr(change.after, name)
    ]
    if not changes:
        return ""
    before, after = change.milliseconds, change.milliseconds_after
    if after is None:
        brought = "not measured yet"
    else:
        percent = f" ({100 * (after - before) / before:+.0f}%)" if before else ""
        brought = f"{before:.2f} -> {after:.2f} ms a step{percent}"
    return f"change {', '.join(changes)}: {brought}"


def _values(key: str, space: Space) -> str:
    if key == "p":
        return f" One of {', '.join(space.priors)}."
    ladder = {"w": "window", "d": "depth", "m": "buffer_share", "s": "share", "i": "interval"}.get(key)
    return f" One of {', '.join(map(str, LADDERS[ladder]))}." if ladder else ""
