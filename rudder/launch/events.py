"""What happens to a job's processes, as values that also travel between machines as JSON lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Union


@dataclass(frozen=True)
class Line:
    """A line that a process wrote, without its end."""

    process: str
    stream: str  # "stdout" or "stderr"
    text: str


@dataclass(frozen=True)
class Exited:
    """A process ended. `code` < 0: by that signal. `failed_at`, `traceback`: its own account, where it
    could give one."""

    process: str
    code: int
    at: float  # time.time()
    failed_at: float | None = None
    traceback: str = ""


@dataclass(frozen=True)
class Broken:
    """A host cannot go on: its processes could not be started, or the connection to it is lost."""

    host: int
    reason: str


Event = Union[Line, Exited, Broken]
Emit = Callable[[Event], None]
_KINDS: dict[str, type[Line] | type[Exited] | type[Broken]] = {
    "line": Line,
    "exited": Exited,
    "broken": Broken,
}


def to_json(event: Event) -> dict[str, Any]:
    """A JSON object with the event's kind."""
    kind = next(kind for kind, cls in _KINDS.items() if isinstance(event, cls))
    return {"kind": kind, **asdict(event)}


def from_json(data: dict[str, Any]) -> Event:
    """Inverse of `to_json`. Raises KeyError, TypeError on anything else."""
    fields = dict(data)
    return _KINDS[fields.pop("kind")](**fields)
