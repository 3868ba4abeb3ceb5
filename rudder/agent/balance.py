"""Is a controller worth what it costs? Gain, cost, and the sleep that follows where the cost is higher.

**Gain** of an interval: the modelled time of the default plan less that of the plan in force, both by the
shadow, over all its steps. **Cost**: seconds on the trainer's thread, and the CPU time that the controller
takes elsewhere, weighted by the share of the machine's cores that was busy: on idle cores it delays nobody,
and where all are busy each of its seconds is taken from a trainer.

After every `STRETCH` intervals the two are compared. Where the net is negative the controller is put to
sleep and the default plan comes back: nobody asks it for `SLEEP` intervals, twice as long the next time,
and so on. It is woken before where what happens is no longer what it fell asleep over: when rows requested
or moved a minibatch, or the time of a step, differ by more than a quarter from the interval in which it
did.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from rudder.metrics import IntervalMetrics

#: Intervals over which gain and cost are summed up: fewer are noise.
STRETCH = 16
#: Intervals of the first sleep, each of the later ones is twice as long, and the longest there may be. While
#: it sleeps nobody sees what other plans would gain; longer first sleeps miss more of what drifts slowly.
SLEEP, LONGEST_SLEEP = 2 * STRETCH, 64 * STRETCH
#: Share by which an interval must differ to wake the sleeper, in `CALM` intervals running: one is noise.
CHANGED, CALM = 0.25, 2


@dataclass
class Balance:
    """The account of one controller. Not thread-safe."""

    #: Seconds since the start: gained by the model, and spent.
    gained: float = 0.0
    spent: float = 0.0
    #: Times that it was put to sleep.
    slept: int = 0
    _gained_before: float = 0.0
    _spent_before: float = 0.0
    # Intervals of this stretch whose gain is known, and those since the last of them.
    _known: int = 0
    _unknown: int = 0
    _left: int = 0
    _fell_asleep: tuple[float, ...] = ()
    _strange: int = 0

    @property
    def asleep(self) -> bool:
        """Is the controller not to be asked?"""
        return self._left > 0

    def add(self, metrics: IntervalMetrics, *, gained: float | None, spent: float) -> str | None:
        """An interval is over; ``gained``: in it and those since the last one that was modelled; None: it was
        not. Why the controller sleeps from now on; None where it does not.
        """
        self.spent += spent
        if self.asleep:
            self._dream(metrics)
            return None
        self.gained += gained or 0.0
        self._unknown += 1
        if gained is None:
            return None
        self._known, self._unknown = self._known + self._unknown, 0
        if self._known < STRETCH:
            return None
        over = self._known
        won, lost = self.gained - self._gained_before, self.spent - self._spent_before
        self._begin_stretch()
        if won >= lost:
            return None
        self._left = min(SLEEP * 2**self.slept, LONGEST_SLEEP)
        self.slept += 1
        self._fell_asleep, self._strange = _shape(metrics), 0
        return (
            f"in {over} intervals it gained {won:.3f} s against the default plan and cost {lost:.3f} s;"
            f" it sleeps for {self._left} intervals, or until the work changes"
        )

    def _dream(self, metrics: IntervalMetrics) -> None:
        self._left -= 1
        pairs = zip(self._fell_asleep, _shape(metrics))
        self._strange = (
            self._strange + 1 if any(abs(now - then) > CHANGED * then for then, now in pairs) else 0
        )
        if self._strange >= CALM:
            self._left = 0
        if self._left == 0:
            self._begin_stretch()

    def _begin_stretch(self) -> None:
        self._gained_before, self._spent_before = self.gained, self.spent
        self._known = self._unknown = 0


def _shape(metrics: IntervalMetrics) -> tuple[float, ...]:
    """What an interval is like, under one plan."""
    steps = max(1, metrics.minibatches)
    return (
        metrics.rows_requested / steps,
        metrics.rows_moved / steps,
        metrics.seconds_wall / steps,
    )


class BusyCores:
    """The share of the time in which this machine's cores were busy, between two looks. Not thread-safe."""

    def __init__(self, path: Path = Path("/proc/stat")) -> None:
        """The first look."""
        self._path = path
        self._before = self._read()

    def since_last(self) -> float:
        """In [0, 1] since the last look; 1, which charges most, where it is not known."""
        before, self._before = self._before, self._read()
        busy, whole = (now - then for now, then in zip(self._before, before))
        return busy / whole if whole > 0 and math.isfinite(busy) else 1.0

    def _read(self) -> tuple[float, float]:
        """Ticks that were not idle, and all ticks."""
        try:
            with self._path.open(encoding="ascii") as file:
                words = file.readline().split()
            ticks = [float(word) for word in words[1:9]]
            return sum(ticks) - ticks[3] - ticks[4], sum(ticks)
        except (OSError, ValueError, IndexError):
            return math.nan, math.nan
