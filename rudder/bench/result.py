"""What was measured, as values; `--json` writes these fields and no others."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class FetchResult:
    """One combination. Rates are medians over rounds; None: does not apply, or could not run here."""

    transport: str
    #: What lies between: "loopback", the rate of a shaped link, or the peers' address.
    link: str
    row_bytes: int
    rows_per_request: int
    in_flight: int
    peers: int
    rows_per_second: float
    gigabytes_per_second: float
    #: Of requests, over all rounds. With fewer than a thousand requests the last one is the slowest of all.
    p50_us: float
    p99_us: float
    p999_us: float
    #: Rates, as multiples of the baselines' in the same rounds.
    ratio_to_memcpy_gather: float | None
    ratio_to_raw_stream: float | None
    ratio_to_distdgl_pull: float | None
    #: User and system time of the client and all peers.
    cpu_ns_per_row: float | None
    #: Whether every byte of every request was what the seed says.
    verified: bool

    def as_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


@dataclass(frozen=True)
class CrowdResult:
    """Several clients of one server at once, beside one alone. Medians over rounds."""

    transport: str
    link: str
    row_bytes: int
    rows_per_request: int
    in_flight: int
    clients: int
    rows_per_second: float
    gigabytes_per_second: float
    ratio_to_one_client: float
    #: The slowest client's rate, over the mean of all.
    slowest_to_mean: float
    verified: bool

    def as_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


@dataclass(frozen=True)
class Report:
    """Everything that one run of the benchmark found."""

    results: list[FetchResult]
    crowds: list[CrowdResult]
    #: What was left out, and what a reader should know.
    notes: list[str]

    @property
    def verified(self) -> bool:
        """Whether no byte differed anywhere."""
        return all(each.verified for each in self.results) and all(each.verified for each in self.crowds)
