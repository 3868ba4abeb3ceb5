"""A trainer on a workload, interval by interval, as a live run goes: a plan in, evidence out.

The accesses go through the live engine's ledger, the times through the pipeline of `rudder.shadow`; the
shadow is the live one, fed with what the simulated run measures. A prior "vip" is that of the training set as
it is when it is computed anew, and is out of date afterwards; a plan that only names it gets the last one.
`Terms` say what of all this a controller gets, and what it pays for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from rudder.agent.controller import Ahead
from rudder.agent.evidence import Evidence
from rudder.agent.lead import most_lead
from rudder.agent.remembered import Remembered
from rudder.agent.space import Space
from rudder.gap_sample import Sampler
from rudder.metrics import IntervalMetrics
from rudder.plan import Plan
from rudder.policies import LOOKAHEAD, SCORE
from rudder.rollout.paid_shadow import PaidShadow
from rudder.rollout.terms import Terms
from rudder.rollout.workload import Workload
from rudder.shadow.sample import Counts
from rudder.shadow.shadow import Shadow
from rudder.shadow.trial import Memory, Trial
from rudder.trace import Worth

if TYPE_CHECKING:
    from rudder._core import Feed, Prior

#: The loader's own bound on waiting blocks, as a share of the memory at first.
WAITING_SHARE = 0.25
#: Of computing a prior that is only counted or read: as a share of computing VIP.
_CHEAP = 0.1


class Simulator:
    """One trainer under plans. Not thread-safe."""

    def __init__(
        self,
        workload: Workload,
        plan: Plan | None = None,
        *,
        terms: Terms | None = None,
        halvings: int = 0,
        shadow: bool = True,
        policy: str = LOOKAHEAD,
    ) -> None:
        """Before the first minibatch, under ``plan`` (by default the default one).

        ``terms``: by default those on which decisions are labelled.
        ``halvings``: run a spatial sample of 2 ** -halvings of the rows, each weighing as much as so many.
        ``shadow``: without it evidence has no counterfactuals, and an interval takes a tenth of the time.
        ``policy``: with score, the paper's, no shadow runs; "yes" and "no" are tried on the interval itself.
        """
        self.workload = workload
        plan = plan or Plan()
        self._terms = terms = terms or Terms()
        #: What controllers may choose.
        self.space = Space(
            default=plan,
            priors=tuple(name for name in terms.priors if name in workload.priors),
            rebuilds=terms.rebuilds,
            scores=policy == SCORE,
        )
        #: The last interval's evidence; None before the first.
        self.evidence: Evidence | None = None
        self._stepped = 0.0
        self._halvings = halvings
        self._feed = _feed_of(workload, halvings)
        self._counts = Counts()
        self._counted, self._counting = 0, False
        # Counted only while in force, a prior starts with nothing: its first counts come without being asked
        # for, as `rudder.prior` has it.
        self._blank = terms.counts_in_force and plan.prior == "frequency"
        self._vip_of = 0
        self._row_bytes = workload.row_bytes
        self._waiting = WAITING_SHARE * float(workload.memory_rows[0]) * workload.row_bytes
        self._trial = Trial(
            self._feed,
            self._memory(0),
            plan,
            self._prior(plan, 0),
            id_space=workload.id_space,
            halvings=halvings,
            policy=policy,
        )
        self._interval = 0
        self._remembered = Remembered()
        self._entered = np.zeros(workload.id_space, dtype=np.bool_)
        self._shadow: PaidShadow | None = None
        # As it stood when the interval before began: see `rudder.shadow.Shadow.look`.
        self._earlier: Trial | None = None
        self._submitted = 0
        if shadow and policy != SCORE:
            made = Shadow(
                plan,
                self._memory(0),
                lambda name: self._worth(name, 0),
                latency=float(workload.latency_s[0]) if terms.latency is None else terms.latency,
                rebuild_seconds=workload.rebuild_s,
                counts_in_force=terms.counts_in_force,
            )
            self._shadow = PaidShadow(made, terms.shadow_share)

    @property
    def next(self) -> int:
        """The minibatch that is next."""
        return self._trial.pipeline.next

    @property
    def plan(self) -> Plan:
        """The plan in force."""
        return self._trial.plan

    @property
    def done(self) -> bool:
        """Is the workload over?"""
        return self.next >= len(self.workload)

    @property
    def shadow(self) -> PaidShadow | None:
        """The shadow, where there is one."""
        return self._shadow

    @property
    def milliseconds(self) -> float:
        """Of all steps so far, and of the shadow between them."""
        return self._stepped + (1000 * self._shadow.spent if self._shadow is not None else 0.0)

    def step(
        self, plan: Plan, *, rolled_back: bool = False, ahead: Ahead | None = None, asked: bool = True
    ) -> Evidence:
        """Run an interval under ``plan``; returns its evidence. REQUIRES not done.

        ``rolled_back``: the guard put it there. ``ahead``: who is asked before its end, where it has one.
        ``asked``: somebody is asked at its end.
        """
        before, totals = self._trial.counters(), _times(self._trial)
        begin = self.next
        self._apply(plan, rolled_back)
        end = min(begin + plan.interval, len(self.workload))
        past = self._trial.clone() if self.space.scores else None
        if ahead is not None and end == begin + plan.interval:
            # As `rudder.steering` asks it.
            self._trial.run(end - most_lead(plan.interval))
            lead = ahead.lead(self._metrics(before, totals, begin, self.next))
            self._trial.run(max(self.next, end - max(1, lead)))
            metrics, tried = self._metrics(before, totals, begin, self.next), False
            if self._shadow is not None:
                self._feed_shadow()
                tried = self._shadow.so_far(metrics)
            ahead.ask(self._evidence(metrics, self._earlier or past, begin, tried))
        self._trial.run(end)
        self._earlier = past
        metrics = self._metrics(before, totals, begin, end)
        self._stepped += 1000 * metrics.seconds_wall
        tried = False
        if self._shadow is not None:
            self._feed_shadow()
            tried = self._shadow.end_interval(metrics) and ahead is None and asked
        self.evidence = self._evidence(metrics, past, begin, tried)
        self._remembered.ended(metrics)
        for minibatch in range(begin, end):
            self._entered[self._feed.ids(minibatch)] = True
        self._interval += 1
        return self.evidence

    def _evidence(self, metrics: IntervalMetrics, past: Trial | None, begin: int, tried: bool) -> Evidence:
        """Of the interval that began at ``begin``, until now; ``past``: where plans are tried from on;
        ``tried``: may the shadow try them?
        """
        candidates, counterfactuals = self.space.candidates(self.plan), dict[str, float]()
        if past is not None:
            counterfactuals = {n: self._tried(past, other, self.next) for n, other in candidates.items()}
        if self._shadow is not None and tried:
            counterfactuals = self._shadow.counterfactuals(candidates)
        return self._remembered.evidence(
            metrics, self.space, counterfactuals=counterfactuals, fresh_share=self._fresh(begin, self.next)
        )

    def cost_of(self, horizon: int = 2) -> Callable[[Plan], float]:
        """Milliseconds a step of the next ``horizon`` intervals if this plan is held: by trying it on a copy.

        Each plan is tried once. The simulator itself does not move; the answer is of where it stands now.
        """
        tried: dict[Plan, float] = {}
        trial, begin = self._trial, self.next
        end = min(begin + horizon * self.plan.interval, len(self.workload))

        def cost(plan: Plan) -> float:
            if plan not in tried:
                tried[plan] = self._tried(trial, plan, end)
            return tried[plan]

        return cost

    def _tried(self, trial: Trial, plan: Plan, end: int) -> float:
        """Milliseconds a step until minibatch ``end``, from where the trial stands."""
        copy = trial.clone()
        begin, clock = copy.pipeline.next, copy.pipeline.clock
        self._apply_to(copy, plan)
        copy.run(end)
        return 1000 * (copy.pipeline.clock - clock) / max(1, end - begin)

    def _apply(self, plan: Plan, rolled_back: bool) -> None:
        renewed = self._renews(self._trial, plan)
        memory, seconds = self._memory(self.next), self._apply_to(self._trial, plan)
        if renewed:
            self._blank = plan.prior == "frequency" and self._terms.counts_in_force and not self._counting
        self._remembered.decided(plan.but(rebuild=False), rebuilt=renewed, rolled_back=rolled_back)
        if renewed:
            self._vip_of = self._computed_at(plan, self.next)
        if self._shadow is not None:
            worth = (
                self._worth(plan.prior, self.next) if renewed and plan.prior in ("vip", "degree") else None
            )
            self._feed_shadow()
            self._shadow.shadow.applied(plan, worth, renewed=renewed, memory=memory, seconds=seconds)

    def _apply_to(self, trial: Trial, plan: Plan) -> float:
        """Bring a plan into force; returns the seconds that the trainer waits for it."""
        at = trial.pipeline.next
        renewed = self._renews(trial, plan)
        self._count(trial)
        trial.apply(plan, self._memory(at), self._prior(plan, at) if renewed else None)
        seconds = 0.0
        if renewed:
            anew = plan.rebuild and plan.prior == "vip"
            seconds = self.workload.rebuild_s * (1.0 if anew else _CHEAP)
            trial.pipeline.pause(seconds)
        return seconds

    def _renews(self, trial: Trial, plan: Plan) -> bool:
        """Does this plan, following that of the trial, come with a prior computed for it?"""
        return plan.rebuild or plan.prior != trial.plan.prior or (plan.prior == "frequency" and self._blank)

    def _count(self, trial: Trial) -> None:
        """Count what was sampled so far, where it is counted."""
        if not self._terms.counts_in_force or trial.plan.prior == "frequency":
            self._counting = True
            for minibatch in range(self._counted, trial.pipeline.sampled):
                self._counts.count(self._feed.ids(minibatch), self.workload.id_space)
        self._counted = max(self._counted, trial.pipeline.sampled)

    def _prior(self, plan: Plan, minibatch: int) -> Prior:
        from rudder._core import Prior

        if plan.prior == "frequency":
            return Prior.from_worth(self._counts.worth(plan.half_life, self.workload.id_space))
        worth = self._worth(plan.prior, self._computed_at(plan, minibatch))
        return Prior.from_worth(np.zeros(1, dtype=np.float32) if worth is None else worth)

    def _computed_at(self, plan: Plan, minibatch: int) -> int:
        """When the VIP was computed that the plan would get now."""
        return minibatch if plan.rebuild and plan.prior == "vip" else self._vip_of

    def _worth(self, name: str, minibatch: int) -> Worth | None:
        if name == "vip":
            return self.workload.vip_at(minibatch)
        return self.workload.degree if name == "degree" else None

    def _memory(self, minibatch: int) -> Memory:
        at = min(minibatch, len(self.workload) - 1)
        return Memory(int(self.workload.memory_rows[at]), self._row_bytes, self._waiting)

    def _feed_shadow(self) -> None:
        assert self._shadow is not None
        some = self.workload
        for minibatch in range(self._submitted, self._trial.pipeline.sampled):
            ids = some.ids[some.offsets[minibatch] : some.offsets[minibatch + 1]].astype(np.int64)
            self._shadow.shadow.submitted(
                ids, float(some.block_bytes[minibatch]), float(some.sampling_s[minibatch])
            )
        self._submitted = max(self._submitted, self._trial.pipeline.sampled)

    def _fresh(self, begin: int, end: int) -> float | None:
        seen = fresh = 0
        for minibatch in range(begin, end):
            ids = self._feed.ids(minibatch)
            seen += len(ids)
            fresh += int(np.count_nonzero(~self._entered[ids]))
        return fresh / seen if seen and begin else None

    def _metrics(
        self, before: dict[str, int], totals: tuple[float, ...], begin: int, end: int
    ) -> IntervalMetrics:
        some, after, steps = self.workload, self._trial.counters(), end - begin
        wall, stalled_sampling, stalled_fetching, fetching = (
            now - then for now, then in zip(_times(self._trial), totals)
        )
        pipeline = self._trial.pipeline

        def rows(name: str) -> int:
            return (after[name] - before[name]) << self._halvings

        waiting = some.block_bytes[end : pipeline.sampled].sum()
        return IntervalMetrics(
            tensor=some.name,
            rank=0,
            interval=self._interval,
            minibatches=steps,
            plan=self.plan,
            row_bytes=self._row_bytes,
            ids_requested=int(some.offsets[end] - some.offsets[begin]),
            rows_requested=rows("rows_requested"),
            rows_hit=rows("rows_hit"),
            rows_moved=rows("rows_moved"),
            rows_merged=rows("rows_merged"),
            rows_replaced=rows("rows_replaced"),
            rows_evicted=rows("rows_evicted"),
            seconds_wall=wall,
            seconds_sampling=float(some.sampling_s[begin:end].sum()),
            seconds_fetching=fetching,
            seconds_stalled_sampling=stalled_sampling,
            seconds_stalled_fetching=stalled_fetching,
            capacity_rows=after["capacity_rows"] << self._halvings,
            cached_rows=after["cached_rows"] << self._halvings,
            window_rows=after["window_rows"] << self._halvings,
            window_minibatches=after["window_minibatches"],
            window_bytes=after["window_bytes"],
            waiting_bytes=int(waiting),
        )


def _times(trial: Trial) -> tuple[float, float, float, float]:
    pipeline = trial.pipeline
    return pipeline.clock, pipeline.stalled_sampling, pipeline.stalled_fetching, pipeline.fetching


def _feed_of(workload: Workload, halvings: int) -> Feed:
    from rudder._core import Feed

    sampler, feed = Sampler(), Feed()
    sampler.halvings = halvings
    for t in range(len(workload)):
        ids = workload.ids[workload.offsets[t] : workload.offsets[t + 1]].astype(np.int64)
        feed.append(
            sampler.among(ids),
            requests=len(ids),
            sampling=float(workload.sampling_s[t]),
            block_bytes=float(workload.block_bytes[t]),
            compute=float(workload.compute_s[t]),
            row_seconds=workload.row_bytes / float(workload.bandwidth[t]),
            latency=float(workload.latency_s[t]),
        )
    return feed
