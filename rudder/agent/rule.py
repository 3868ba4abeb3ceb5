"""A controller of two rules, each with hysteresis so that noise moves nothing; and one in the paper's mode.

**Depth follows the stall for rows.** When the trainer waits for rows more than 5% of the time in two
intervals running, fetch one minibatch further ahead; if two such steps in a row did not cut the stall by a
tenth, latency is not the cause (bandwidth is): go back and try no deeper for 16 intervals. When it waits
less than 1% in eight intervals running, fetch one less ahead, since rows staged early take memory and, in
policies that charge it, capacity.

**Window follows the memory of waiting blocks.** When they take more than half of what the buffer takes,
sample one step less far ahead (never below 2 buffers: the row count rises steeply there); when they take
less than a quarter and the window has been cut, give a step back.

**Replacement follows misses** (policy score, where nothing else is steered). Yes when fewer than half of
the rows were found in the buffer, or more were moved than in the interval before; no otherwise, since rows
fetched for the buffer's sake are rows moved.
"""

from __future__ import annotations

from rudder.agent.evidence import Evidence
from rudder.agent.space import neighbour
from rudder.metrics import IntervalMetrics
from rudder.plan import Plan

STALL_HIGH = 0.05  # share of the wall time; above it a deeper pipeline is worth its memory
STALL_LOW = 0.01  # below it the last minibatch of depth bought nothing that matters
RAISE_AFTER = 2  # intervals; one bad interval is often another process's
LOWER_AFTER = 8  # longer than RAISE_AFTER, or depth would swing around the edge
USEFUL = 0.9  # a step that leaves more than this share of the stall has not helped
FAILED_STEPS = 2  # steps without use before the old depth comes back
PATIENCE = 16  # intervals until a failed depth is tried again
DEEPEST = 16  # staged rows beyond this are a second buffer
NARROWEST, WIDEST = 2.0, 4.0  # buffers of requests; the steep and the flat end of the curve
BLOCKS_HIGH, BLOCKS_LOW = 0.5, 0.25  # waiting blocks as a share of the buffer's bytes
HITS_LOW = 50  # percent of the requested rows found in the buffer; below it the buffer holds the wrong rows


class RuleController:
    """Adapts window and depth to what was measured; see the module's text for the rules."""

    def __init__(self) -> None:
        """Start without history."""
        self._high = 0
        self._low = 0
        self._rest = 0
        self._back_to: int | None = None
        self._trial_from: int | None = None
        self._trial_steps = 0
        self._trial_stall = 0.0

    def decide(self, evidence: Evidence) -> Plan:
        """The plan for the next interval."""
        metrics = evidence.metrics
        if metrics.seconds_wall <= 0.0:
            return metrics.plan
        if evidence.space.scores:
            signals = evidence.signals()
            return metrics.plan.but(replace=signals["ht"] < HITS_LOW or signals["mc"] > 0)
        return metrics.plan.but(
            depth=self._depth(metrics),
            window=self._window(metrics),
            rebuild=metrics.plan.prior == "frequency",
        )

    def _depth(self, metrics: IntervalMetrics) -> int:
        depth = metrics.plan.depth
        if self._back_to is not None and depth > self._back_to:
            return int(neighbour("depth", depth, above=False))
        self._back_to = None
        stall = metrics.seconds_stalled_fetching / metrics.seconds_wall
        self._rest = max(0, self._rest - 1)
        self._high = self._high + 1 if stall > STALL_HIGH else 0
        self._low = self._low + 1 if stall < STALL_LOW else 0
        if self._low >= LOWER_AFTER and depth > 1:
            self._low = 0
            self._trial_from = None
            return int(neighbour("depth", depth, above=False))
        if self._high < RAISE_AFTER:
            if self._high == 0:
                self._trial_from = None  # the deeper pipeline did help
            return depth
        self._high = 0
        return self._deeper(depth, stall)

    def _deeper(self, depth: int, stall: float) -> int:
        """One step deeper, or the first one back to where the trial began, when steps have not helped."""
        if self._rest > 0 or depth >= DEEPEST:
            return depth
        if self._trial_from is None or stall < USEFUL * self._trial_stall:
            self._trial_from, self._trial_steps, self._trial_stall = depth, 0, stall
        elif self._trial_steps >= FAILED_STEPS:
            self._rest = PATIENCE
            self._back_to, self._trial_from = self._trial_from, None
            return int(neighbour("depth", depth, above=False))
        self._trial_steps += 1
        return int(neighbour("depth", depth, above=True))

    def _window(self, metrics: IntervalMetrics) -> float:
        window = metrics.plan.window
        buffer_bytes = metrics.capacity_rows * metrics.row_bytes
        if buffer_bytes == 0:
            return window
        blocks = metrics.waiting_bytes / buffer_bytes
        if blocks > BLOCKS_HIGH and window > NARROWEST:
            return float(max(NARROWEST, neighbour("window", window, above=False)))
        if blocks < BLOCKS_LOW and NARROWEST <= window < WIDEST:
            return float(min(WIDEST, neighbour("window", window, above=True)))
        return window
