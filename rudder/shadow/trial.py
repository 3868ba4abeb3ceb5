"""One plan in force, as it is modelled: a ledger of rows says what moves, a pipeline how long it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rudder.plan import Plan
from rudder.policies import LOOKAHEAD, SCORE, PolicySettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rudder._core import Feed, Prior


@dataclass(frozen=True)
class Memory:
    """What a plan divides, of all rows (not of the sample): see `rudder.planner`."""

    #: The trainer's own, of which the plan has the share.
    rows: int
    row_bytes: int
    #: The loader's own bound on waiting blocks, beside what the plan gives them.
    waiting_bytes: float

    def buffer_rows(self, plan: Plan) -> int:
        """Rows that the buffer may hold."""
        return self._rows(plan) * plan.buffer_share // 100

    def window_rows(self, plan: Plan) -> int:
        """Requests until which the window is filled."""
        return round(plan.window * self.buffer_rows(plan))

    def block_bytes(self, plan: Plan) -> float:
        """Bytes of blocks that may wait."""
        return self.waiting_bytes + (self._rows(plan) - self.buffer_rows(plan)) * self.row_bytes

    def _rows(self, plan: Plan) -> int:
        return self.rows * plan.share // 100


class Trial:
    """A trainer under a plan; goes on from where it stands. Not thread-safe."""

    def __init__(
        self,
        feed: Feed,
        memory: Memory,
        plan: Plan,
        prior: Prior | None,
        *,
        id_space: int,
        halvings: int = 0,
        policy: str = LOOKAHEAD,
        settings: PolicySettings | None = None,
    ) -> None:
        """``feed``: ids in [0, id_space) that each stand for 2 ** halvings; all else in it is of all rows."""
        from rudder._core import Ledger, Pipeline

        self.feed, self.memory, self.plan = feed, memory, plan.but(rebuild=False)
        self._halvings, self._policy = halvings, policy
        self._ledger = Ledger(
            id_space=id_space,
            capacity=memory.buffer_rows(plan) >> halvings,
            policy=policy,
            depth=plan.depth,
            prior=prior,
            **(settings or PolicySettings()).for_core(),
        )
        self.pipeline = Pipeline(
            plan.depth, memory.window_rows(plan), memory.block_bytes(plan), first=feed.first
        )

    def clone(self) -> Trial:
        """The same state over the same feed, which goes on alone."""
        other = Trial.__new__(Trial)
        other.__dict__.update(self.__dict__)
        other._ledger, other.pipeline = self._ledger.clone(), self.pipeline.clone()
        return other

    def apply(self, plan: Plan, memory: Memory | None = None, prior: Prior | None = None) -> None:
        """Bring a plan into force between two minibatches; without a prior the present one stays."""
        self.plan, memory = plan.but(rebuild=False), memory or self.memory
        self._ledger.steer(
            capacity_rows=memory.buffer_rows(plan) >> self._halvings,
            depth=plan.depth,
            prior=prior,
            replace=plan.replace if self._policy == SCORE else None,
            fraction=plan.fraction if self._policy == SCORE else None,
        )
        self.bound(memory)

    def bound(self, memory: Memory) -> None:
        """Blocks may take another amount of memory; the rows have what they had."""
        self.memory = memory
        self.pipeline.steer(
            self.feed, self.plan.depth, memory.window_rows(self.plan), memory.block_bytes(self.plan)
        )

    def rank(self, prior: Prior) -> None:
        """Rank rows by this prior from now on."""
        self._ledger.steer(prior=prior)

    def run(self, end: int) -> float:
        """Go on until minibatch ``end`` is next; returns the milliseconds of a step."""
        begin, clock = self.pipeline.next, self.pipeline.clock
        self.moved(end)
        return 1000 * (self.pipeline.clock - clock) / max(1, end - begin)

    def moved(self, end: int) -> NDArray[np.float64]:
        """Go on until minibatch ``end`` is next; returns the rows that each minibatch moved, all of them."""
        return self.pipeline.run(self.feed, self._ledger, end, self._halvings)

    def drop(self) -> None:
        """What was sampled ahead is forgotten."""
        self._ledger.drop_pending()
        self.pipeline.drop()

    def counters(self) -> dict[str, int]:
        """Of the ledger: rows of the sample."""
        return self._ledger.counters()
