"""What `rudder bench fetch` is to measure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rudder.config import parse_bytes
from rudder.errors import ConfigError

#: In the order of measuring. The last is DistDGL's own pull behind the interface of transports.
TRANSPORTS = ("shm", "ucx", "kvstore")

# A batch of the paper's size, and one small request; a row of 128 floats, and a page.
_DEFAULT_ROWS = (1000, 20_000)
_DEFAULT_ROW_BYTES = (512, 4096)
# Four times a large L3 slice (32 MiB): random rows come from memory, as features do.
_TABLE_BYTES = 128 << 20


@dataclass(frozen=True)
class FetchSettings:
    """Every combination of row_bytes, peers, rows, in_flight and transports is measured."""

    row_bytes: tuple[int, ...] = _DEFAULT_ROW_BYTES
    #: Of a request, over all of its peers.
    rows: tuple[int, ...] = _DEFAULT_ROWS
    in_flight: tuple[int, ...] = (1, 4)
    peers: tuple[int, ...] = (1,)
    #: Empty: every one that can run.
    transports: tuple[str, ...] = ()
    #: Measuring DistDGL needs its servers, which take seconds to start.
    dgl: bool = True
    #: Of measuring one combination, over all rounds.
    seconds: float = 1.0
    #: Rounds; every combination and every baseline has one turn in each.
    repeats: int = 9
    #: Of each peer, for each size of row.
    table_bytes: int = _TABLE_BYTES
    seed: int = 1
    #: Of one request.
    deadline_s: float = 30.0

    def __post_init__(self) -> None:
        """Raise ConfigError for what cannot be measured."""
        for name in ("row_bytes", "rows", "in_flight", "peers"):
            values = getattr(self, name)
            if not values or min(values) < 1:
                raise ConfigError(f"--{name.replace('_', '-')} {values}: name one or more, each at least 1")
        unknown = [name for name in self.transports if name not in TRANSPORTS]
        if unknown:
            raise ConfigError(f"--transport {unknown[0]!r}: use {', '.join(TRANSPORTS)}")
        if "kvstore" in self.transports and not self.dgl:
            raise ConfigError("--transport kvstore is DistDGL's pull: it excludes --no-dgl")
        if self.seconds <= 0 or self.deadline_s <= 0 or self.repeats < 1:
            raise ConfigError("--seconds, --deadline and --repeats must be positive")
        if self.table_bytes < max(self.row_bytes):
            raise ConfigError(f"--table-bytes {self.table_bytes} is less than a row")

    def table_rows(self, row_bytes: int) -> int:
        """Rows of a peer's table."""
        return self.table_bytes // row_bytes

    def as_json(self) -> dict[str, Any]:
        """For another process."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> FetchSettings:
        """Inverse of `as_json`, also after a journey as text."""
        given: dict[str, Any] = {}
        for key, value in data.items():
            given[key] = tuple(value) if isinstance(value, list) else value
        return cls(**given)


def parse_counts(text: str, option: str) -> tuple[int, ...]:
    """Numbers separated by commas: "1000,20000". Raises ConfigError."""
    items = [item.strip().replace("_", "") for item in text.split(",") if item.strip()]
    if not items or not all(item.isdigit() for item in items):
        raise ConfigError(f"{option} {text!r}: write numbers separated by commas: 1000,20000")
    return tuple(dict.fromkeys(int(item) for item in items))


def parse_sizes(text: str, option: str) -> tuple[int, ...]:
    """Sizes separated by commas: "512,4KiB". Raises ConfigError."""
    found = []
    for item in filter(None, (item.strip() for item in text.split(","))):
        try:
            found.append(int(item) if item.isdigit() else parse_bytes(item))
        except ConfigError as error:
            raise ConfigError(f"{option}: {error}") from error
    if not found:
        raise ConfigError(f"{option}: name at least one size: 512,4KiB")
    return tuple(dict.fromkeys(found))


def parse_names(text: str) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(dict.fromkeys(item.strip() for item in text.split(",") if item.strip()))


def parse_places(text: str) -> list[tuple[str, int]]:
    """Peers as "host:port,host:port". Raises ConfigError."""
    found = []
    for item in text.split(","):
        host, _, port = item.strip().rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError(f"--connect: expected HOST:PORT, got {item!r}")
        found.append((host.strip("[]"), int(port)))
    return found
