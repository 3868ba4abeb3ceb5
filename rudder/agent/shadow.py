"""The controller without a model: the best candidate plan, by what the shadow says of the past interval.

Noise moves nothing: a plan must have been faster by `LEAST` in two intervals running, or by `CLEAR` in one;
and after a change it rests, since an interval's modelled times are of a buffer that fits the plan before.
"""

from __future__ import annotations

from rudder.agent.default import kept
from rudder.agent.evidence import Evidence
from rudder.plan import Plan

#: Gains below are noise of a sample, by and large.
LEAST = 0.01
#: A gain that speaks for itself.
CLEAR = 0.05
#: Intervals without a change after one; after computing a prior anew, which takes time each time.
RESTS, RESTS_REBUILT = 1, 4


class ShadowController:
    """Answers the candidate of least modelled time. Best used where evidence has counterfactuals."""

    def __init__(self) -> None:
        """Nothing has been faster yet."""
        self._faster: str | None = None
        self._rest = 0

    def decide(self, evidence: Evidence) -> Plan:
        """The best candidate, or the plan in force."""
        plan = evidence.plan
        candidates, times = evidence.space.candidates(plan), evidence.counterfactuals
        now = times.get("=", 0.0)
        self._rest -= 1
        if self._rest >= 0 or now <= 0:
            self._faster = None
            return kept(plan)
        best = min((name for name in times if name in candidates), key=lambda name: times[name])
        gain = 1 - times[best] / now
        again, self._faster = best == self._faster, best if gain >= LEAST else None
        if gain >= CLEAR or (gain >= LEAST and again):
            self._faster = None
            answer = candidates[best]
            self._rest = RESTS_REBUILT if answer.rebuild else RESTS
            return evidence.space.bounded(plan, answer)
        return kept(plan)
