"""Steering: evidence, the controller's answer, the guard, and what became of it, at each interval's end.

Whatever a controller does, training goes on with the last good plan. The time of all this is the trainer's:
it happens between two steps, and the next one waits for it; so it is measured (`rudder.agent.balance`).
"""

from __future__ import annotations

import logging
import math
import time
from typing import Any, Protocol

from rudder.agent.balance import Balance, BusyCores
from rudder.agent.controller import Ahead, Controller, Report, Reporting
from rudder.agent.default import kept
from rudder.agent.evidence import Evidence
from rudder.agent.guard import Guard
from rudder.agent.job import JobFacts
from rudder.agent.lead import most_lead
from rudder.agent.remembered import Remembered
from rudder.agent.space import Space
from rudder.decisions import effect, evidence_values, interval_values
from rudder.metrics import IntervalMetrics
from rudder.plan import Plan
from rudder.shadowing import LiveShadow
from rudder.shares import Shares

_log = logging.getLogger("rudder")


class Notes(Protocol):
    """Where steering writes down what it did: `rudder.meter.Meter`."""

    def add(self, **amounts: float) -> None:
        """Add to running totals."""
        ...

    def put(self, **values: float) -> None:
        """Set what holds now."""
        ...

    def decided(self, values: dict[str, Any]) -> None:
        """Write a line of the log of decisions."""
        ...


class Steering:
    """The plan in force and the controller that may change it. Used by one thread (the trainer's).

    For each interval `ask` where `asks_after` says so, at its end `step`, then `accept` or `refuse`, then
    `settle`.
    """

    def __init__(
        self,
        controller: Controller,
        space: Space,
        *,
        name: str = "",
        bounded: bool = False,
        shadow: LiveShadow | None = None,
        guard: Guard | None = None,
        shares: Shares | None = None,
    ) -> None:
        """Start with the default plan of ``space``.

        ``name``: the controller's; "default" is not watched: nothing of it is counted or written.
        ``bounded``: answers are brought to the nearest plan that may follow. ``guard`` wants a
        ``shadow``; without it the controller never sleeps. ``shares``: memory may be traded.
        """
        self.controller, self.space = controller, space
        self.plan = space.default
        self.refused = 0
        self._name, self._bounded, self._guard = name, bounded, guard
        self._shadow, self._shares = shadow, shares
        self._looked = False
        self._watched = name != "default"
        self._balance = Balance()
        self._remembered = Remembered()
        self._busy = BusyCores()
        self._report = Report()
        self._reports = True
        self._notes: Notes | None = None
        self._line: dict[str, Any] = {}
        self._evidence: Evidence | None = None
        self._spent = 0.0
        self._ahead = controller if isinstance(controller, Ahead) else None
        # What this interval was asked about before its end.
        self._question: Evidence | None = None
        #: Minibatches of the interval after which to call `ask`; None: not (any more) in this interval.
        self.asks_after: int | None = None
        self._expect()

    def write_to(self, notes: Notes) -> None:
        """Write down counts, costs and decisions there."""
        self._notes = notes

    @property
    def job(self) -> JobFacts:
        """What evidence says of the job: set it before the first interval ends, and never again."""
        return self._remembered.job

    @job.setter
    def job(self, facts: JobFacts) -> None:
        self._remembered.job = facts

    @property
    def asleep(self) -> bool:
        """Is the controller not asked, because it costs more than it gains?"""
        return self._balance.asleep

    def ask(self, metrics: IntervalMetrics, waiting_bytes: int | None = None) -> None:
        """The interval has come so far: ask a controller that thinks elsewhere (`Ahead`), if it is time."""
        began = time.perf_counter()
        try:
            self._ask(metrics, waiting_bytes)
        except Exception as error:
            self.refuse(f"raised {type(error).__name__}: {error}")
        finally:
            self._spent += time.perf_counter() - began

    def _ask(self, metrics: IntervalMetrics, waiting_bytes: int | None) -> None:
        assert self._ahead is not None
        self.asks_after = None
        interval, shadow = metrics.plan.interval, self._shadow
        after = interval - min(max(1, self._ahead.lead(metrics)), most_lead(interval))
        if metrics.minibatches < after:
            self.asks_after = after
            return
        looked = shadow is not None and shadow.so_far(metrics, waiting_bytes)
        self._question = self._known(metrics, looked)
        trades = self._shares if self._bounded else None
        self._ahead.ask(self._question if trades is None else trades.asked(self._question))

    def interrupted(self) -> None:
        """Somebody else changed the plan within the interval: it tells nothing of one plan."""
        self.asks_after = None

    def step(self, metrics: IntervalMetrics, waiting_bytes: int | None = None) -> Plan:
        """The next interval's plan: the controller's, or the last good one where that cannot be used.

        ``waiting_bytes``: the loader's bound on blocks that wait, where there is a loader.
        """
        began = time.perf_counter()
        try:
            return self._step(metrics, waiting_bytes)
        finally:
            self._spent += time.perf_counter() - began

    def _step(self, metrics: IntervalMetrics, waiting_bytes: int | None) -> Plan:
        before, shadow = self._remembered.previous, self._shadow
        self._looked = shadow is not None and shadow.end_interval(metrics, waiting_bytes)
        asked, self._question = self._question, None
        # Who was asked before has what it decides on.
        self._evidence = evidence = self._known(metrics, self._looked and self._ahead is None)
        self._remembered.ended(metrics)
        if self._shares is not None:
            self._shares.look(asked or evidence)
        self._line = {"outcome": "kept", "reason": "", "answer": None, "answers": None}
        if self._watched:
            self._line |= {"controller": self._name, "effect": effect(before, metrics)}
            known = (shadow.live_ms, shadow.default_ms) if shadow is not None and self._looked else ()
            self._line |= evidence_values(evidence, *known, asked=asked)
        if self.asleep:
            return self._slept()
        return self._reviewed(self._asked(evidence))

    def _slept(self) -> Plan:
        """The plan after an interval in which nobody was asked: the default one, which is in force."""
        self._line["outcome"] = "asleep"
        answer, shadow = kept(self.plan), self._shadow
        if self._looked and self._guard is not None and shadow is not None:
            answer = self._reviewed(answer)
            if self._guard.idle(self.plan, shadow):
                shadow.sleep()
        return answer

    def _known(self, metrics: IntervalMetrics, tried: bool) -> Evidence:
        """The evidence of an interval, or of a part of one; ``tried``: plans can be tried on it."""
        shadow, modelled = self._shadow, dict[str, float]()
        if shadow is not None and tried and not self.asleep:
            modelled = shadow.counterfactuals(self.space.candidates(metrics.plan))
        fresh = shadow.fresh_share if shadow is not None else None
        return self._remembered.evidence(metrics, self.space, counterfactuals=modelled, fresh_share=fresh)

    def _reviewed(self, answer: Plan) -> Plan:
        """The answer, or what the guard puts in its place."""
        guard, shadow = self._guard, self._shadow
        if guard is None or shadow is None:
            return answer
        if not shadow.works:  # nobody can judge a plan any more
            if self.plan != self.space.default:
                self._line |= {"outcome": "rolled back", "reason": "there is no shadow any more"}
            elif answer != self.plan and self._line["outcome"] == "kept":
                self._line |= {"outcome": "kept out", "reason": "there is no shadow any more"}
            return self.space.default
        if not self._looked and answer != self.plan:
            self._looked = shadow.look()  # nothing comes into force unseen
        if not self._looked:
            return answer if answer == self.plan else self.plan
        before = guard.rolled_back
        if self._shares is None:
            plan = guard.review(self.plan, answer, shadow)
        else:
            plan = self._shares.review(guard, self.plan, answer, shadow)
        if guard.rolled_back > before:
            self._line |= {"outcome": "rolled back", "reason": "by the shadow, the default plan is faster"}
        elif plan != answer and self._line["outcome"] == "kept":
            self._line |= {"outcome": "kept out", "reason": "by the shadow, the answer is a risk"}
        return plan

    def accept(self, plan: Plan, *, rebuilt: bool = False) -> None:
        """Keep a plan that has been applied; ``rebuilt``: with a prior that was computed for it."""
        rolled_back = self._line.get("outcome") == "rolled back"
        if self._line.get("outcome") == "kept" and (plan != self.plan or rebuilt):
            self._line["outcome"] = "adopted"
        self.plan = plan
        self._expect()
        self._remembered.decided(plan, rebuilt=rebuilt, rolled_back=rolled_back)

    def refuse(self, reason: str) -> None:
        """Count an unusable answer; the first one is logged, the others are only counted."""
        self.refused += 1
        self._line |= {"outcome": "refused", "reason": reason}
        if self.refused == 1:
            _log.warning("controller %s %s; the last good plan stays (%s)", self._called, reason, self.plan)

    def settle(self) -> Plan | None:
        """Write down what the step came to. The plan to go back to, where the controller falls asleep."""
        began, evidence = time.perf_counter(), self._evidence
        before, self._spent = self._spent, 0.0
        if not self._watched or evidence is None:
            return None
        told = self._told()
        counts, report = self._counts(told), told or self._report
        agent = max(0.0, report.cpu_seconds - self._report.cpu_seconds)
        self._report = report
        gained = self._gained()
        # The prior that a plan builds is the plan's cost, not the controller's: the time in between is left
        # out.
        spent = before + time.perf_counter() - began
        lost = spent + agent * self._busy.since_last()
        judged = gained if self._guard is not None else None
        slept = self._balance.add(evidence.metrics, gained=judged, spent=lost)
        if not self.asleep:
            self._wake_shadow()
        self._expect()
        if slept is not None:
            self._line["reason"] = slept
            _log.warning("controller %s: %s", self._called, slept)
        cost = {"seconds_steering": spent, "seconds_agent": agent, "seconds_gained": gained or 0.0}
        if self._notes is not None:
            line = {**self._line, "after": str(self.space.default if slept is not None else self.plan)}
            line |= {"late": counts["late"] > 0, "refused": line["outcome"] == "refused"}
            line |= {"rolled_back": line["outcome"] == "rolled back"}
            line["shares"] = self._shares.values() if self._shares is not None else None
            line["cost"] = {**{k: round(v, 6) for k, v in cost.items()}, "agent_bytes": report.memory_bytes}
            self._notes.decided(line)
            self._notes.add(**cost, **{f"decisions_{name}": count for name, count in counts.items()})
            self._notes.put(agent_bytes=report.memory_bytes)
        self._line = {}
        return self.space.default if slept is not None else None

    def _wake_shadow(self) -> None:
        """Whoever is asked again needs it."""
        if self._shadow is not None and self._shadow.asleep:
            self._shadow.wake()
            if self._guard is not None:
                self._guard.began_anew()

    def finish(self, metrics: IntervalMetrics) -> None:
        """The run's last interval, which nobody decides on: it tells what the last decision brought."""
        if self._watched and self._notes is not None:
            last = self._remembered.previous
            self._notes.decided({"kind": "end", **interval_values(metrics), "effect": effect(last, metrics)})

    def close(self) -> None:
        """Close the controller, where it wants to be. What that raises is only logged."""
        try:
            close = getattr(self.controller, "close", None)
            if callable(close):
                close()
        except Exception as error:
            _log.warning(
                "controller %s: its close() raised %s: %s", self._called, type(error).__name__, error
            )

    def _expect(self) -> None:
        """When to ask in the interval that begins."""
        asks = self._ahead is not None and not self.asleep
        self.asks_after = self.plan.interval - most_lead(self.plan.interval) if asks else None

    @property
    def _called(self) -> str:
        return self._name or type(self.controller).__name__

    def _asked(self, evidence: Evidence) -> Plan:
        """The controller's answer, or the plan in force."""
        trades = self._shares if self._bounded else None  # others answer a share themselves
        try:
            answer = self.controller.decide(evidence if trades is None else trades.asked(evidence))
        except Exception as error:
            self.refuse(f"raised {type(error).__name__}: {error}")
            return self.plan
        if not isinstance(answer, Plan):
            self.refuse(f"answered {answer!r}, which is not a Plan")
            return self.plan
        if trades is not None:
            answer = answer.but(share=trades.wanted())
        plan = self.space.bounded(evidence.plan, answer) if self._bounded else answer
        self._line |= {"answer": str(answer), "answers": evidence.metrics.interval}
        return plan

    def _told(self) -> Report | None:
        """What the controller tells of itself; None where it has no report, or none that can be used."""
        if not self._reports:
            return None
        try:
            if not isinstance(self.controller, Reporting):
                return None
            report = self.controller.report()
            if not isinstance(report, Report):
                raise TypeError(f"{report!r} is not a Report")
            numbers = (report.valid, report.late, report.failed, report.cpu_seconds, report.memory_bytes)
            if not all(map(math.isfinite, numbers)):
                raise ValueError(f"{report!r} has a number that is none")
        except Exception as error:
            self.refused, self._reports = self.refused + 1, False
            reason = f"{type(error).__name__}: {error}"
            _log.warning(
                "controller %s has no report() that can be used (%s); it is not asked for one again, and the"
                " plan stays (%s)",
                *(self._called, reason, self.plan),
            )
            return None
        return report

    def _counts(self, report: Report | None) -> dict[str, int]:
        """Of this step, by the names in `rudder.metrics`. ``report``: None: `decide` alone tells."""
        line, asked = self._line, self._line["outcome"] != "asleep"
        counts = {
            "made": int(asked),
            "valid": int(line["answer"] is not None and line["outcome"] != "refused"),
            "late": 0,
            "adopted": int(line["outcome"] == "adopted"),
            "rolled_back": int(line["outcome"] == "rolled back"),
        }
        if report is not None:
            last = self._report
            counts |= {"valid": report.valid - last.valid, "late": report.late - last.late}
            counts["made"] = counts["valid"] + counts["late"] + report.failed - last.failed
            line["answers"] = report.answered if counts["valid"] else None
            if not counts["valid"]:
                line["answer"] = None
                if line["outcome"] == "kept":
                    line["outcome"] = "late" if counts["late"] else "none"
                    line["reason"] = line["reason"] or report.state
        return counts

    def _gained(self) -> float | None:
        """Modelled seconds saved against the default plan, in what was modelled now."""
        shadow = self._shadow
        if not self._looked or shadow is None or shadow.live_ms is None or shadow.default_ms is None:
            return None
        return (shadow.default_ms - shadow.live_ms) * shadow.steps / 1000
