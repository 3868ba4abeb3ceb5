"""Whose ask is served next: every trainer in turn, each with its newest ask."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rudder.agent.worker.protocol import Ask


@dataclass(frozen=True)
class _Waiting:
    ask: Ask
    expires: float


class Turns:
    """Asks that wait, at most one of each trainer. Used by one thread; times are `time.monotonic`."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._waiting: dict[int, _Waiting] = {}  # in the order of their turns

    def __len__(self) -> int:
        """Trainers that wait."""
        return len(self._waiting)

    def put(self, trainer: int, ask: Ask, now: float) -> None:
        """Wait for a turn; an older ask of the same trainer is forgotten, its place in the queue kept."""
        self._waiting[trainer] = _Waiting(ask, now + ask.deadline_ms / 1000)

    def forget(self, trainer: int) -> None:
        """The trainer is gone."""
        self._waiting.pop(trainer, None)

    def take(self) -> tuple[int, Ask, float] | None:
        """The next trainer, its ask, and when that expires."""
        for trainer in self._waiting:
            found = self._waiting.pop(trainer)
            return trainer, found.ask, found.expires
        return None

    def expired(self, now: float) -> list[tuple[int, Ask]]:
        """Asks whose deadline passed while they waited; they are forgotten."""
        late = [(trainer, item.ask) for trainer, item in self._waiting.items() if item.expires <= now]
        for trainer, _ in late:
            del self._waiting[trainer]
        return late

    def next_expiry(self) -> float | None:
        """When `expired` has something to say, at the earliest."""
        return min((item.expires for item in self._waiting.values()), default=None)


def with_time_left(ask: Ask, expires: float, now: float) -> Ask:
    """The same ask, its deadline counted from now."""
    return replace(ask, deadline_ms=max(0.0, (expires - now) * 1000))
