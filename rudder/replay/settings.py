"""What to replay: policies, capacities, windows and what a row and a step cost, as one picklable value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rudder.config import rows_of_capacity
from rudder.errors import ConfigError
from rudder.policies import PolicySettings
from rudder.replay.cost import Costs

#: Names beside those of the engine's policies: the optimum, and two other marks.
MARKS = ("min", "compulsory", "static-oracle")
#: What is replayed where nothing else is asked for and the trace is not of a live run.
DEFAULT_POLICIES = ("lookahead", "lru")
DEFAULT_CAPACITIES = ("5%", "10%", "25%", "50%")

_MINIBATCHES = re.compile(r"(\d+)b")
_NUMBER = re.compile(r"\d+(\.\d+)?")
_PERCENT = re.compile(r"\d+(\.\d+)?%")
_WHOLE = re.compile(r"\d+")


@dataclass(frozen=True)
class Window:
    """How far the window reaches beyond the minibatch in use: buffers of requests, or minibatches."""

    buffers: float = 0.0
    minibatches: int = 0

    @classmethod
    def parse(cls, text: str) -> Window:
        """``"4"``: four buffers of rows; ``"16b"``: sixteen minibatches. Raises ConfigError."""
        if match := _MINIBATCHES.fullmatch(text.strip()):
            return cls(minibatches=int(match[1]))
        if _NUMBER.fullmatch(text.strip()):
            return cls(buffers=float(text))
        raise ConfigError(f"window {text!r}: write buffers of rows (4) or minibatches (16b)")

    def rows(self, capacity: int) -> int:
        """Requests in the window of a buffer of ``capacity`` rows; 0 where it counts minibatches."""
        return round(self.buffers * capacity)

    def as_json(self) -> float | str:
        """A number of buffers, or text such as "16b"."""
        if self.minibatches:
            return f"{self.minibatches}b"
        return int(self.buffers) if self.buffers.is_integer() else self.buffers

    def __str__(self) -> str:
        """As the command line takes it."""
        return str(self.as_json())


@dataclass(frozen=True)
class Capacity:
    """Rows of a buffer, and their share of the halo (None where its size is not known)."""

    rows: int
    fraction: float | None


def parse_capacity(text: str, *, halo_rows: int, rows: int, row_bytes: int) -> Capacity:
    """What ``text`` stands for: "25%" of the halo, 0.25 likewise, 9000 rows, or memory ("64MiB").

    Raises ConfigError for anything else, for none at all, and for more than the ``rows`` that there are.
    """
    text = text.strip()
    fraction = float(text[:-1]) / 100 if _PERCENT.fullmatch(text) else None
    capacity: float | int | str = text
    if _WHOLE.fullmatch(text):
        capacity = int(text)
    elif _NUMBER.fullmatch(text):
        capacity = fraction = float(text)
    if halo_rows == 0 and fraction is not None:
        raise ConfigError(f"capacity {text}: the trace does not say how large the halo is; give rows")
    found = rows_of_capacity(capacity, halo_rows=halo_rows, remote_rows=2**62, row_bytes=row_bytes)
    if found < 1:
        raise ConfigError(
            f"capacity {text}: that is no row at all; give at least 1 row, or use --policy none"
        )
    if found > rows:
        raise ConfigError(f"capacity {text} is {found:,} rows, but the trace has {rows:,}: give at most that")
    return Capacity(found, share_of(found, halo_rows) if fraction is None else fraction)


def share_of(rows: int, halo_rows: int) -> float | None:
    """Share of the halo; None where its size is not known."""
    return round(rows / halo_rows, 6) if halo_rows else None


def split(text: str, what: str) -> tuple[str, ...]:
    """The words of a comma-separated option. Raises ConfigError where there is none."""
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not words:
        raise ConfigError(f"{what} {text!r}: give at least one")
    return words


@dataclass(frozen=True)
class Request:
    """What to replay of each trace. Raises ConfigError for a policy that is unknown.

    ``policies``, ``capacities`` and ``windows`` may be empty: those of the live run, where the trace is of
    one, else the defaults above and a window of four buffers.
    """

    policies: tuple[str, ...] = ()
    capacities: tuple[str, ...] = ()
    windows: tuple[Window, ...] = ()
    #: "vip", "degree", "frequency", "none", a file of numbers (.npy), or "": that of the live run, else the
    #: best that the trace has.
    prior: str = ""
    #: Of the prior "frequency": minibatches until an access counts half (0: never). Interval: minibatches
    #: between rebuilds of that prior, and between replacements of score with a period of 0. None: those of
    #: the live run, else of the default plan.
    half_life: int | None = None
    interval: int | None = None
    #: Minibatches for which a row that was fetched, but not kept, still serves. None: as in the live run at
    #: its own settings, else 0.
    staged: int | None = None
    #: Fields of `PolicySettings` that differ from those of the live run, or from the defaults.
    policy_settings: Mapping[str, Any] = field(default_factory=dict)
    #: Charge the window's memory to the capacity.
    equal_memory: bool = False
    costs: Costs = field(default_factory=Costs)

    def __post_init__(self) -> None:
        """Check what can be checked without a trace."""
        from rudder import _core

        known = (*_core.policy_names(), *MARKS)
        for policy in self.policies:
            if policy not in known:
                raise ConfigError(f"unknown policy {policy!r}; choose among: {', '.join(known)}, expected")
        for name in ("half_life", "staged"):
            if (getattr(self, name) or 0) < 0:
                raise ConfigError(f"{name.replace('_', '-')} of {getattr(self, name)}: it cannot be negative")
        if self.interval is not None and self.interval < 1:
            raise ConfigError("interval must be at least 1 minibatch")
        PolicySettings(**self.policy_settings)

    @property
    def as_recorded(self) -> bool:
        """Is nothing asked for that a live run has a setting of its own for, beside what selects outcomes?"""
        asked = (self.half_life, self.interval, self.staged)
        return not self.prior and not self.policy_settings and all(each is None for each in asked)
