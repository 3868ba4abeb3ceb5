"""What a controller knows at the end of an interval, and the same as short integers.

Every controller decides on the same `Evidence`. `signals` makes of it what models read: whole numbers of at
most three digits, in a fixed order, with every ratio and difference ready-made, since small models compare
numbers badly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rudder.agent.job import JobFacts
from rudder.agent.space import Space
from rudder.metrics import IntervalMetrics
from rudder.plan import Plan

#: Intervals, and changes of plan, that evidence remembers.
REMEMBERED = 3
_LIMIT = 999

#: Meaning of each signal, in the order in which models read them. Percentages unless said otherwise; "change"
#: is against the interval before. A signal that is not known is 0.
SIGNALS: dict[str, str] = {
    "st": "waiting for rows, of the wall time",
    "ss": "waiting for samples, of the wall time",
    "fe": "a minibatch's fetching time, of its training time",
    "sa": "a minibatch's sampling time, of its training time",
    "rq": "remote rows that a minibatch requests, of the buffer's rows",
    "mv": "rows moved, of rows requested",
    "ht": "rows found in the buffer, of rows requested",
    "wr": "rows that wait in the window, of the buffer's rows",
    "wb": "bytes of waiting blocks, of the buffer's bytes",
    "fr": "rows requested that no earlier interval had requested",
    "xm": "rows moved, of what the optimum would have moved",
    "ag": "age of the prior, in intervals (a number)",
    "ms": "change of the time of a step",
    "mc": "change of rows moved a minibatch",
    "rc": "change of rows requested a minibatch",
    "fc": "change of the fetching time of a row",
    "ef": "change of the time of a step that the last change of plan brought",
    "gd": "times that the guard put the default back (a number)",
}
#: Candidate plans (`Space.candidates`) whose modelled time models read: tenths of a percent against the plan
#: in force, negative where faster.
COUNTERFACTUALS: dict[str, str] = {
    "df": "the default plan",
    "w+": "a wider window",
    "w-": "a narrower window",
    "d+": "more depth",
    "d-": "less depth",
    "m+": "more memory for the buffer",
    "m-": "less memory for the buffer",
    "pv": "prior vip",
    "pd": "prior degree",
    "pf": "prior frequency",
    "pn": "no prior",
    "b": "the prior computed anew",
    "y": "replacement",
    "n": "no replacement",
}


@dataclass(frozen=True)
class Decision:
    """A change of plan, and what it brought."""

    #: The plan that was in force, and measured milliseconds a step of its last interval.
    plan: Plan
    milliseconds: float
    #: The plan that came into force, and the same of its first interval; None: that is not over yet.
    after: Plan
    milliseconds_after: float | None = None


@dataclass(frozen=True)
class Evidence:
    """One interval of one tensor on one rank, with what went before and what might have been."""

    metrics: IntervalMetrics
    space: Space = field(default_factory=Space)
    #: The last intervals before this one, oldest first.
    recent: tuple[IntervalMetrics, ...] = ()
    #: Modelled milliseconds a step of this interval under other plans, by the names of `Space.candidates`,
    #: "=" (the plan in force) among them. Empty where there is no shadow (yet).
    counterfactuals: Mapping[str, float] = field(default_factory=dict)
    #: The last changes of plan, newest last.
    history: tuple[Decision, ...] = ()
    #: Share of requested rows (sampled) that no earlier interval had requested; None: not known.
    fresh_share: float | None = None
    #: Intervals since the prior was computed.
    prior_age: int = 0
    #: Times that the guard has put the default plan back.
    rolled_back: int = 0
    #: What is known of the job.
    job: JobFacts = field(default_factory=JobFacts)

    @property
    def previous(self) -> IntervalMetrics | None:
        """The interval before; None for the first."""
        return self.recent[-1] if self.recent else None

    @property
    def plan(self) -> Plan:
        """The plan in force in this interval."""
        return self.metrics.plan

    @property
    def milliseconds(self) -> float:
        """Measured milliseconds a step."""
        return step_milliseconds(self.metrics)

    def signals(self) -> dict[str, int]:
        """Every signal and counterfactual by its key, in their order; each in [-999, 999]."""
        now, before = self.metrics, self.previous or self.metrics
        rows = now.rows_requested
        memory = now.capacity_rows * now.row_bytes
        steps = max(1, now.minibatches)
        values = {
            "st": _percent(now.seconds_stalled_fetching, now.seconds_wall),
            "ss": _percent(now.seconds_stalled_sampling, now.seconds_wall),
            "fe": _percent(now.seconds_fetching, now.seconds_training),
            "sa": _percent(now.seconds_sampling, now.seconds_training),
            "rq": _percent(rows / steps, now.capacity_rows),
            "mv": _percent(now.rows_moved, rows),
            "ht": _percent(now.rows_hit, rows),
            "wr": _percent(now.window_rows, now.capacity_rows),
            "wb": _percent(now.waiting_bytes, memory),
            "fr": _limited(100 * (self.fresh_share or 0.0)),
            "xm": _limited(100 * (now.times_min or 0.0)),
            "ag": _limited(self.prior_age),
            "ms": _change(step_milliseconds(before), self.milliseconds),
            "mc": _change(_each(before.rows_moved, before), _each(now.rows_moved, now)),
            "rc": _change(_each(before.rows_requested, before), _each(rows, now)),
            "fc": _change(_row_seconds(before), _row_seconds(now)),
            "ef": _change(self.history[-1].milliseconds if self.history else 0.0, self.milliseconds),
            "gd": _limited(self.rolled_back),
        }
        live = self.counterfactuals.get("=", 0.0)
        for name in COUNTERFACTUALS:
            other = self.counterfactuals.get(name)
            known = other is not None and live > 0
            values[name] = _limited(1000 * (other - live) / live) if known and other is not None else 0
        return values


def step_milliseconds(metrics: IntervalMetrics) -> float:
    """Wall milliseconds of a step; 0 where there was none."""
    return 1000 * metrics.seconds_wall / metrics.minibatches if metrics.minibatches else 0.0


def _each(amount: float, metrics: IntervalMetrics) -> float:
    return amount / max(1, metrics.minibatches)


def _row_seconds(metrics: IntervalMetrics) -> float:
    return metrics.seconds_fetching / metrics.rows_moved if metrics.rows_moved else 0.0


def _limited(value: float) -> int:
    return round(max(-_LIMIT, min(_LIMIT, value)))


def _percent(part: float, whole: float) -> int:
    return _limited(100 * part / whole) if whole > 0 else 0


def _change(before: float, now: float) -> int:
    return _limited(100 * (now - before) / before) if before else 0
