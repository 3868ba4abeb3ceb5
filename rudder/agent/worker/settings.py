"""What a keeper and its worker are told when they are started: one JSON text on the command line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

from rudder.errors import ConfigError

#: Prompt and answer together, in tokens, that a model gets room for: the system text is some 1,000 of them.
#: Memory grows with it, and a context of a hundred thousand hangs the machine for a minute.
CONTEXT = 4096
_ADDRESSES = ("http://", "https://")


@dataclass(frozen=True)
class WorkerSettings:
    """Which model, and what it may take. Raises ConfigError for values that cannot work."""

    #: Path of a GGUF file, or the address of a server (docs/agent.md).
    model: str
    context: int = CONTEXT
    #: More than one only on cores that nothing else uses: two on busy cores took three seconds a decision.
    threads: int = 1
    #: Added to the trainer's niceness. At 19 a busy machine leaves the worker nothing.
    nice: int = 5
    #: Let the model's process see the machine's GPUs, which are the trainers' otherwise.
    gpu: bool = False
    #: Seconds until a model that has not loaded and decided once is given up.
    load_seconds: float = 120.0
    #: Unix socket on which trainers find the keeper; "": only the process that started it talks to it.
    address: str = ""

    def __post_init__(self) -> None:
        """Check."""
        if not self.model:
            raise ConfigError("the agent needs a model: a GGUF file, or an address that begins with http://")
        for name, value, least, most in (
            ("context", self.context, 256, 131072),
            ("threads", self.threads, 1, 256),
            ("nice", self.nice, 0, 19),
            ("load_seconds", self.load_seconds, 0.1, 3600),
        ):
            if not least <= value <= most:
                raise ConfigError(f"an agent with {name} {value}: it must be {least} to {most}")

    @property
    def is_address(self) -> bool:
        """Is the model behind an address, not in a file?"""
        return self.model.startswith(_ADDRESSES)

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
        return cls(**values)
