"""What a keeper and its worker are told when they are started: one JSON text on the command line."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from rudder.errors import ConfigError

#: Prompt and answer together, in tokens, that a model gets room for: the system text is some 1,000 of them.
#: Memory grows with it, and a context of a hundred thousand hangs the machine for a minute.
CONTEXT = 4096
#: Room for runs that name none; `rudder launch --agent-context` and `--agent-threads` set them.
ENV_CONTEXT, ENV_THREADS = "RUDDER_AGENT_CONTEXT", "RUDDER_AGENT_THREADS"
#: The model that comes with the package.
PILOT = Path(__file__).parents[1] / "pilot.gguf"
# What stands before the host in an address.
_WITH_USER = re.compile(r"https?://[^/?#]*@")


def is_address(model: str) -> bool:
    """Is the model behind an address, not in a file?"""
    return model.startswith(("http://", "https://"))


def check_model(model: str) -> None:
    """Raise ConfigError for an address with a password, which command lines and logs would show."""
    if is_address(model) and _WITH_USER.match(model):
        raise ConfigError(
            "a model's address holds no user and password (http://user:password@host): it is seen on command"
            " lines and in logs; set RUDDER_AGENT_KEY, which is sent as a bearer token"
        )


def absolute_model(model: str) -> str:
    """A path that holds in every folder; addresses, and "", stay as they are. Raises ConfigError."""
    check_model(model)
    return model if not model or is_address(model) else os.path.abspath(model)


@dataclass(frozen=True)
class Room:
    """What a model may take. Raises ConfigError for values that cannot work."""

    #: Tokens of prompt and answer together.
    context: int = CONTEXT
    #: More than one only on cores that nothing else uses: two on busy cores took three seconds a decision.
    threads: int = 1

    def __post_init__(self) -> None:
        """Check."""
        _check(("context", self.context, 256, 131072), ("threads", self.threads, 1, 256))

    @classmethod
    def here(cls, context: int | None = None, threads: int | None = None) -> Room:
        """What is named, else what the environment says. Raises ConfigError."""
        return cls(
            _from_env(ENV_CONTEXT, CONTEXT) if context is None else context,
            _from_env(ENV_THREADS, 1) if threads is None else threads,
        )

    def env(self) -> dict[str, str]:
        """For a process in which `here` gives the same."""
        return {ENV_CONTEXT: str(self.context), ENV_THREADS: str(self.threads)}


@dataclass(frozen=True)
class WorkerSettings:
    """Which model, and what it may take. Raises ConfigError for values that cannot work."""

    #: Path of a GGUF file, or the address of a server (docs/agent.md); "": the pilot, see `source`.
    model: str = ""
    room: Room = field(default_factory=Room)
    #: Added to the trainer's niceness. At 19 a busy machine leaves the worker nothing.
    nice: int = 5
    #: Seconds until a model that has not loaded and decided once is given up.
    load_seconds: float = 120.0
    #: Unix socket on which trainers find the keeper; "": only the process that started it talks to it.
    address: str = ""

    def __post_init__(self) -> None:
        """Check."""
        check_model(self.model)
        _check(("nice", self.nice, 0, 19), ("load_seconds", self.load_seconds, 0.1, 3600))

    @property
    def source(self) -> str:
        """The model; on this machine, where it is the one that comes with the package."""
        return self.model or str(PILOT)

    @property
    def is_address(self) -> bool:
        """Is the model behind an address, not in a file?"""
        return is_address(self.model)

    def to_json(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> WorkerSettings:
        """Inverse of `to_json`. Raises ConfigError."""
        values = json.loads(text)
        unknown = set(values) - {item.name for item in fields(cls)}
        if unknown:
            raise ConfigError(f"an agent has no setting {', '.join(sorted(unknown))}")
        return cls(**{**values, "room": Room(**values.get("room", {}))})


def _check(*values: tuple[str, float, float, float]) -> None:
    for name, value, least, most in values:
        if not least <= value <= most:
            raise ConfigError(f"an agent with {name} {value}: it must be {least} to {most}")


def _from_env(name: str, otherwise: int) -> int:
    text = os.environ.get(name, "")
    try:
        return int(text) if text else otherwise
    except ValueError:
        raise ConfigError(f"{name}={text}: it must be a whole number") from None
