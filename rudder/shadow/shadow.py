"""The shadow of a run: its last interval modelled under other plans, and the default plan all along.

It sees what the run submits, keeps a spatial sample of the ids (as `rudder.gap` does), and after each
interval what the run measured. From that it models two trainers: one under the plans that were in force, one
that had the default plan from the beginning, within the same share of memory. A counterfactual starts from
the first one's state at the interval's begin.

**Costs** are of the interval itself: its mean computing time, each minibatch's sampling time, the bandwidth
at which the model fetches as long as the run did. The latency is given (`rudder.shadow.latency`), since busy
time alone cannot tell it from bandwidth.

**Not known here**: what "vip" computed anew would be. Its stand-in is what was counted lately, which ranks
rows about as a fresh VIP does; and of a computation's time, only the share that falls on an interval if it
holds for `HOLDS` of them. Nor what "frequency" would be that is not in force, since a run counts accesses
only while it is: the stand-in is what an interval or so would have counted. Once in force, it ranks rows by
what the run itself has counted.

**Sleep.** While nobody wants to know, it takes no time: put to `sleep` it forgets all but the plans. Woken it
begins anew, as at the start of a run: with empty buffers, at the first interval that it sees all of.

Ids take 8 bytes an access until their interval ended; numbers 24 bytes a sampled id, at most `MOST_NUMBERS`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rudder.metrics import IntervalMetrics
from rudder.plan import Plan
from rudder.policies import LOOKAHEAD, SCORE, PolicySettings
from rudder.shadow.latency import ASSUMED_S
from rudder.shadow.ranking import Counted, Ranking, WorthOf
from rudder.shadow.sample import Numbers
from rudder.shadow.trial import Memory, Trial
from rudder.source import Ids

#: Sampled accesses of an interval; the rate is halved above. A plan takes about 0.12 microseconds for each.
SAMPLE = 6144
#: Sampled ids with a number; the rate is halved above.
MOST_NUMBERS = 1 << 18
#: Intervals for which a prior computed anew is taken to hold.
HOLDS = 4
_SMOOTHING = 1 / 16
# Minibatches kept behind the interval: what the pipeline may look back to.
_KEPT = 400


class Shadow:
    """One tensor's shadow on one trainer. `submitted` may be called from another thread than the rest."""

    def __init__(
        self,
        plan: Plan,
        memory: Memory,
        worth: WorthOf,
        *,
        default: Plan | None = None,
        local: tuple[int, int] = (0, 0),
        latency: float = ASSUMED_S,
        policy: str = LOOKAHEAD,
        rebuild_seconds: float = 0.0,
        settings: PolicySettings | None = None,
        counts_in_force: bool = True,
    ) -> None:
        """``plan``: in force now; ``default``: what it is compared with (None: the same plan).

        ``local``: first id of the local partition, and the one after its last. ``latency``: seconds of a
        fetch beside its bytes. ``rebuild_seconds``: what computing a prior takes, until one was measured.
        ``counts_in_force``: the run counts accesses only while its prior is "frequency".
        """
        from rudder._core import Feed

        self.latency, self.rebuild_seconds = latency, rebuild_seconds
        #: Modelled milliseconds a step of the last interval: of the run, and of the default plan from the
        #: beginning. None: nothing was modelled yet.
        self.live_ms: float | None = None
        self.default_ms: float | None = None
        #: Measured time of the last interval as a multiple of the modelled one.
        self.calibration = 1.0
        #: Share of the rows requested in the last interval that no earlier one, as far as it was seen, had
        #: requested.
        self.fresh_share: float | None = None
        #: Does it not see all of this interval? Then that is `passed`, and not modelled.
        self.resting = False
        self._asleep = False
        self._plan, self._memory = plan, memory
        self._default = default or plan
        self._local, self._policy = local, policy
        self._settings = settings or PolicySettings()
        self._lock = threading.Lock()
        self._mean: float | None = None
        self._row_seconds = 1e-6
        self._pause = 0.0
        self._ranking = Ranking(worth, counts_in_force=counts_in_force)
        self._live_worth = self._ranking.worth(plan.prior)
        self._beside_worth = self._ranking.worth(self._default.prior)
        self._interval_begin = self._interval_end = 0
        # While it rests: minibatches that the trainer had begun before this interval.
        self._begun = 0
        self._feed, self._numbers = Feed(), Numbers(local)
        #: What was counted when this interval began, and when the one modelled last did.
        self._begin_counted = self._past_counted = Counted()
        #: Ids that both models' priors rank; sampled accesses of this interval, and those to new ids.
        self._ranked = self._seen = self._new = 0
        self._live, self._beside = self._both(0)
        #: The run as it stood when the last interval began.
        self._past: Trial | None = None
        #: The same of the interval before it; policy "score" only.
        self._earlier: Trial | None = None

    @property
    def rate(self) -> float:
        """Share of the ids that belong to the sample."""
        return float(2.0**-self._numbers.sampler.halvings)

    @property
    def runs(self) -> int:
        """How many it models: 1 while the run and the one under the default plan are the same, else 2."""
        return len(self._trials())

    def submitted(self, ids: Ids, block_bytes: float = 0.0, sampling: float = 0.0) -> None:
        """A minibatch was sampled: ids (int64), bytes of its blocks, seconds that sampling took."""
        with self._lock:
            if self._asleep:
                self._feed.pass_by()
                return
            numbers, new = self._numbers.of(ids)
            low, high = self._local
            remote = len(ids) if low == high else int(np.count_nonzero((ids < low) | (ids >= high)))
            self._ranking.count(numbers, len(self._numbers), self._plan)
            self._feed.append(numbers, requests=remote, sampling=sampling, block_bytes=block_bytes)
            self._new += new
            self._seen += len(numbers)
            mean = float(len(numbers)) if self._mean is None else self._mean
            self._mean = mean + (len(numbers) - mean) * _SMOOTHING
            self._lower()

    def dropped(self) -> None:
        """Every minibatch that the trainer did not begin is forgotten."""
        with self._lock:
            self._feed.truncate(self._at)
            for trial in self._trials():
                trial.drop()
            self._earlier = None  # which foresaw what is dropped

    def bound(self, memory: Memory) -> None:
        """The loader's bound on blocks is known now, and held since the last interval's end."""
        with self._lock:
            self._memory = memory
            if not self.resting:
                for trial in self._trials():
                    trial.bound(memory)

    def applied(
        self,
        plan: Plan,
        worth: NDArray[np.float32] | None = None,
        *,
        renewed: bool = False,
        memory: Memory | None = None,
        seconds: float = 0.0,
    ) -> None:
        """A plan came into force; it took so many seconds. ``renewed``: with a prior that was computed for
        it, ``worth`` (of every row) where it is not counted.
        """
        with self._lock:
            if worth is not None and plan.prior != "frequency":
                self._ranking.learn(plan.prior, worth)
            if plan.rebuild and plan.prior != "frequency":
                self.rebuild_seconds = seconds
            self._plan, self._pause = plan.but(rebuild=False), seconds
            if renewed:
                self._live_worth = self._ranking.worth(plan.prior)
            before = self._default, self._memory
            self._default, self._memory = self._default.but(share=plan.share), memory or self._memory
            if self.resting:
                return
            if self._together and (renewed or not plan.works_like(self._default)):
                self._beside = self._live.clone()
            if not self._together and (self._default, self._memory) != before:
                self._beside.apply(self._default, self._memory)
            self._live.apply(plan, memory, self._ranking.made(plan, self._numbers) if renewed else None)

    def sleep(self) -> None:
        """Look at nothing any more, and forget what was seen. Between two intervals."""
        with self._lock:
            self._begun = self._at
            self._asleep = self.resting = True
            self._start(self._numbers.sampler.halvings, self._feed.end)
            self.live_ms = self.default_ms = self.fresh_share = None

    def wake(self) -> None:
        """Look again. Between two intervals."""
        with self._lock:
            self._asleep = False
            self._see()

    def passed(self, minibatches: int) -> None:
        """An interval of so many ended, while it rests."""
        with self._lock:
            self._begun = min(self._begun + minibatches, self._feed.end)
            if not self._asleep:
                self._see()

    def end_interval(self, metrics: IntervalMetrics) -> None:
        """An interval ended: model it. Call before the next plan is applied."""
        with self._lock:
            self._count_new()
            self._new = self._seen = 0
            begin = self._live.pipeline.next
            end = min(begin + metrics.minibatches, self._feed.end)
            if end > begin:
                self._model(metrics, begin, end)
            self._feed.forget(end - _KEPT)

    def look(self, metrics: IntervalMetrics) -> None:
        """`counterfactuals` are of the interval so far, until it ends; ``metrics``: of that part.

        Policy "score" replaces rows as an interval ends: its counterfactuals are of the interval before, too,
        since nothing was replaced in this one yet.
        """
        with self._lock:
            self._count_new()
            begin = self._live.pipeline.next
            end = min(begin + metrics.minibatches, self._feed.end)
            if end > begin:
                self._cost(metrics, begin, end)
                if self._policy == SCORE and self._earlier is not None:
                    self._past, self._interval_begin = self._earlier, self._earlier.pipeline.next

    def counterfactuals(self, plans: Mapping[str, Plan], *, slower: float = 1.0) -> dict[str, float]:
        """Modelled milliseconds a step of the last interval under each plan; none where none was modelled.

        ``slower``: had the link taken so many times as long for a row.
        """
        with self._lock:
            past = self._past
            if past is None:
                return {}
            self._stretch(slower)
            found: dict[Plan, float] = {}
            for plan in plans.values():
                if plan not in found:
                    found[plan] = self._try(past, plan)
            self._stretch(1.0)
            return {name: found[plan] for name, plan in plans.items()}

    @property
    def _at(self) -> int:
        """The first minibatch of this interval."""
        return self._begun if self.resting else self._live.pipeline.next

    def _see(self) -> None:
        """Begin anew, where every minibatch is seen from here on."""
        if self.resting and self._begun >= self._feed.first:
            self._start(self._numbers.sampler.halvings, self._begun)
            self.resting, self._pause = False, 0.0

    def _stretch(self, slower: float) -> None:
        self._feed.cost(self._interval_begin, self._interval_end, row_seconds=self._row_seconds * slower)

    def _try(self, past: Trial, plan: Plan) -> float:
        trial = past.clone()
        prior = None
        if plan.rebuild or plan.prior != past.plan.prior:
            prior = self._ranking.foreseen(past.plan, plan, self._numbers, self._past_counted)
        trial.apply(plan, None, prior)
        milliseconds = trial.run(self._interval_end)
        if plan.rebuild:
            steps = max(1, self._interval_end - past.pipeline.next)
            milliseconds += 1000 * self.rebuild_seconds / HOLDS / steps
        return milliseconds

    def _count_new(self) -> None:
        if not self._begin_counted.known:
            self.fresh_share = None
        elif self._seen:
            self.fresh_share = self._new / self._seen

    def _cost(self, metrics: IntervalMetrics, begin: int, end: int) -> None:
        """Plans can be tried on these minibatches from now on, at the costs that they had."""
        steps = end - begin
        busy = metrics.seconds_wall - metrics.seconds_stalled - self._pause
        compute = max(0.0, busy / max(1, metrics.minibatches))
        self._feed.cost(begin, end, compute=compute, row_seconds=self._row_seconds, latency=self.latency)
        self._rank_new()
        self._row_seconds = self._fitted(self._live, metrics, steps)
        self._feed.cost(
            begin, self._feed.end, compute=compute, row_seconds=self._row_seconds, latency=self.latency
        )
        self._past, self._past_counted = self._live, self._begin_counted
        self._interval_begin, self._interval_end = begin, end

    def _model(self, metrics: IntervalMetrics, begin: int, end: int) -> None:
        """Both trainers through the interval, at the costs that it had."""
        self._cost(metrics, begin, end)
        steps, past, together = end - begin, self._live, self._together
        self._live, self._earlier = past.clone(), past if self._policy == SCORE else None
        milliseconds = self._live.run(end)
        self.live_ms = milliseconds + 1000 * self._pause / steps
        if together:
            self._beside, self.default_ms = self._live, milliseconds
        else:
            self.default_ms = self._beside.run(end)
        measured = 1000 * metrics.seconds_wall / max(1, metrics.minibatches)
        self.calibration = measured / self.live_ms if self.live_ms > 0 else 1.0
        self._pause = 0.0
        self._begin_counted = self._ranking.now()
        if self._default.prior == "frequency":  # as `rudder.agent.default` has it computed
            self._beside.apply(self._default, None, self._ranking.beside(self._default, self._numbers))

    def _fitted(self, past: Trial, metrics: IntervalMetrics, steps: int) -> float:
        moved = past.clone().moved(past.pipeline.next + steps)
        # What the run moved is known: the sample only says when.
        scale = metrics.rows_moved / moved.sum() if moved.sum() else 0.0
        return past.pipeline.row_seconds(
            self._feed, scale * moved, metrics.seconds_fetching, self._row_seconds
        )

    def _rank_new(self) -> None:
        """Ids that came since have a worth too."""
        from rudder._core import Prior

        if len(self._numbers) == self._ranked:
            return
        self._ranked = len(self._numbers)
        ids = self._numbers.ids
        for trial, worth in zip(self._trials(), (self._live_worth, self._beside_worth)):
            if worth is not None:
                trial.rank(Prior.from_worth(worth[ids]))

    def _lower(self) -> None:
        """Halve the rate where the sample has become too large."""
        halvings = self._numbers.sampler.halvings
        accesses, known = (self._mean or 0.0) * self._plan.interval, len(self._numbers)
        while accesses > SAMPLE or known > MOST_NUMBERS:
            halvings, accesses, known = halvings + 1, accesses / 2, known // 2
        if halvings > self._numbers.sampler.halvings:
            self._mean = None
            self._start(halvings, max(self._at, self._feed.first))

    def _start(self, halvings: int, first: int) -> None:
        """Models with nothing in their buffers yet, from ``first`` on, over a sample of this rate."""
        earlier = self._numbers
        self._feed.forget(first)
        self._numbers = Numbers(self._local)
        self._numbers.sampler.halvings = halvings
        self._ranking.forget()
        self._begin_counted = Counted()
        self._ranked = self._new = self._seen = 0
        for minibatch in range(self._feed.first, self._feed.end):
            numbers, _ = self._numbers.of(earlier.ids[self._feed.ids(minibatch)])
            self._feed.renumber(minibatch, numbers)
            self._ranking.count(numbers, len(self._numbers), self._plan)
        self._past = self._earlier = None
        self._live, self._beside = self._both(halvings)

    def _both(self, halvings: int) -> tuple[Trial, Trial]:
        """The two models at their beginning; one, as long as the run has had nothing but the default plan."""
        live = self._trial(self._plan, halvings)
        same = self._plan.works_like(self._default) and self._live_worth is self._beside_worth
        # What is counted is ranked anew at every interval's end, by each in its own way.
        if same and self._default.prior != "frequency":
            return live, live
        return live, self._trial(self._default, halvings)

    @property
    def _together(self) -> bool:
        return self._beside is self._live

    def _trials(self) -> tuple[Trial, ...]:
        return (self._live,) if self._together else (self._live, self._beside)

    def _trial(self, plan: Plan, halvings: int) -> Trial:
        return Trial(
            self._feed,
            self._memory,
            plan,
            None,
            id_space=2 * MOST_NUMBERS,
            halvings=halvings,
            policy=self._policy,
            settings=self._settings,
        )
