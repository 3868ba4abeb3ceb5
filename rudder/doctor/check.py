"""One line of the doctor's report, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Status(str, Enum):
    """How a part of the machine stands."""

    OK = "ok"
    LIMITED = "limited"  # works, but slower or smaller than it could
    ABSENT = "absent"  # optional, and not here
    FAILED = "failed"  # Rudder cannot do its job without it


@dataclass(frozen=True)
class Check:
    """What was found, and what to do about it (empty where nothing needs doing)."""

    name: str
    status: Status
    found: str
    advice: str = ""

    def as_json(self) -> dict[str, str]:
        """Strings only, for `--json`."""
        return {"name": self.name, "status": self.status.value, "found": self.found, "advice": self.advice}


def human_bytes(count: float) -> str:
    """A size in binary units: 8.0 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
