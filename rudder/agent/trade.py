"""Who of a host's trainers should take how much memory: one rule over what all of them have published.

Trainers of a host step together, and the work of one is about that of another, so the one that waits longest
for its minibatches is the one that all others wait for. Memory goes there, from where it is missed least:

**Take.** The trainer that waits longest takes a step, where the shadow says that this saves it time.
**Give.** If nothing is free for that, the trainer gives a step that would wait least without it, as long as
it would then wait no longer than the first one with it. So the longest wait becomes shorter.
**Own memory comes first.** Who gave may have it back: if it becomes the one that waits longest, whoever holds
more than its own gives it up at its next boundary; and memory that nobody wants goes back to who gave it.

Each trainer applies the rule by itself, to its own share alone. The same board gives the same answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from rudder.agent.evidence import Evidence
from rudder.agent.space import neighbour

#: A step of memory must save this share of a step's time; less is noise of a sample.
LEAST = 0.01
#: Intervals for which a trainer that needed its gift back gives nothing.
PATIENCE = 16
#: Counterfactuals of the share alone.
STEPS = ("s+", "s-")


@dataclass(frozen=True)
class Need:
    """What memory is worth to a trainer, in milliseconds of its step."""

    #: Modelled time of a step, and the measured wait for samples and rows in it.
    step_ms: float
    wait_ms: float
    #: What a step more would save, and a step less cost. None: the share can go no further.
    gain_ms: float | None
    loss_ms: float | None

    @property
    def wants_more(self) -> bool:
        """Would a step more be noticed?"""
        return self.gain_ms is not None and self.gain_ms >= LEAST * self.step_ms


@dataclass(frozen=True)
class Member:
    """A trainer on the board; rows of memory."""

    #: What it brought, what it takes at most at this moment, and what it would take if it could.
    own: int
    holds: int
    wants: int
    #: None: not known, since nothing was modelled after its share last changed.
    need: Need | None = None
    #: Intervals for which it gives nothing.
    rests: int = 0
    live: bool = True

    @property
    def share(self) -> int:
        """Percent of its own memory."""
        return 100 * self.holds // self.own

    @property
    def claim(self) -> int:
        """Rows of its own that it wants back, and has not got."""
        return max(0, min(self.wants, self.own) - self.holds) if self.live else 0

    @property
    def promised(self) -> int:
        """Rows that it gives up as soon as nobody reads them."""
        return max(0, self.holds - self.wants) if self.live else 0

    def step(self, share: int) -> int:
        """Rows of the next step up from that share."""
        return int(self.own * (neighbour("share", share, above=True) - share) // 100)


def free_rows(members: Mapping[int, Member]) -> int:
    """Rows that were given up and nobody has taken."""
    return sum(member.own - member.holds for member in members.values())


def trade(rank: int, share: int, members: Mapping[int, Member]) -> tuple[int, str]:
    """The share that trainer ``rank`` should have next, which has ``share`` now, and why."""
    me = members[rank]
    up, down = (int(neighbour("share", share, above=above)) for above in (True, False))
    coming = free_rows(members) + sum(member.promised for member in members.values())
    claimed = {other: member.claim for other, member in members.items() if member.claim}
    if share > 100 and sum(claimed.values()) > coming and _returns(members) == rank:
        return down, f"trainer {next(iter(claimed))} wants its own memory back"
    known = {other: member.need for other, member in members.items() if member.live and member.need}
    need = known.get(rank)
    if need is None:
        return share, "nothing is modelled yet"
    first = max(known, key=lambda other: (known[other].wait_ms, -other))
    taker, want = members[first], known[first]
    if first == rank and need.wants_more:
        return up, "it waits longest, and more memory would help"
    if not want.wants_more:
        if share < 100 and coming >= me.step(share):
            return up, "nobody else wants the memory"
        return share, f"more memory would not help trainer {first}, which waits longest"
    if first == rank or coming >= taker.step(taker.share):
        return share, "there is memory for who needs it"
    after = want.wait_ms - (want.gain_ms or 0.0)
    without = {
        other: theirs.wait_ms + theirs.loss_ms
        for other, theirs in known.items()
        if other != first and theirs.loss_ms is not None and not members[other].rests
    }
    giver = min(without, key=lambda other: (without[other], other), default=None)
    if giver is None or without[giver] > after:
        return share, f"trainer {first} waits longest, but nobody could give without waiting longer"
    if giver == rank:
        return down, f"trainer {first} waits longest, and gains more than this one loses"
    return share, f"trainer {giver} gives to trainer {first}"


def need_of(evidence: Evidence) -> Need | None:
    """What the shadow says of the share in force; None where it says nothing."""
    metrics, modelled = evidence.metrics, evidence.counterfactuals
    now = modelled.get("=")
    if now is None or not metrics.minibatches:
        return None
    more, less = (modelled.get(name) for name in STEPS)
    return Need(
        step_ms=now,
        wait_ms=1000 * metrics.seconds_stalled / metrics.minibatches,
        gain_ms=None if more is None else max(0.0, now - more),
        loss_ms=None if less is None else max(0.0, less - now),
    )


def without_share(evidence: Evidence) -> Evidence:
    """The same as one sees it who knows nothing of shares: models are trained so."""
    return replace(
        evidence,
        metrics=replace(evidence.metrics, plan=evidence.plan.but(share=100)),
        space=replace(evidence.space, shares=False),
        counterfactuals={name: ms for name, ms in evidence.counterfactuals.items() if name not in STEPS},
    )


def _returns(members: Mapping[int, Member]) -> int:
    """Of those that hold more than their own, the one that waits least."""
    above = {rank: member for rank, member in members.items() if member.live and member.wants > member.own}
    return min(above, key=lambda rank: (_wait(above[rank]), rank), default=-1)


def _wait(member: Member) -> float:
    return member.need.wait_ms if member.need is not None else 0.0
