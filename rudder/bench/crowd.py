"""Several clients of one server at once, beside one of them alone: what is left for each."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence

from rudder.bench.children import Child
from rudder.bench.result import CrowdResult
from rudder.bench.settings import FetchSettings
from rudder.errors import TransportError

# One process can be DistDGL's client, so its pull has no crowd here.
_TRANSPORTS = ("shm", "ucx")


def measure_crowd(
    clients: Sequence[Child], settings: FetchSettings, link: str, tell: Callable[[str], None]
) -> Iterator[CrowdResult | str]:
    """Every combination, as soon as it is measured; text says what was left out. Raises TransportError.

    ``clients``: processes in mode "crowd" that are ready.
    """
    for transport in settings.transports or _TRANSPORTS:
        for row_bytes in settings.row_bytes:
            for rows in settings.rows:
                for in_flight in settings.in_flight:
                    what = {
                        "transport": transport,
                        "row_bytes": row_bytes,
                        "rows": rows,
                        "in_flight": in_flight,
                    }
                    tell(f"{len(clients)} clients: {rows:,} rows of {row_bytes:,} bytes by {transport}")
                    outcome = _measure(clients, settings, link, what)
                    if isinstance(outcome, str) and settings.transports:
                        raise TransportError(outcome)
                    yield outcome


def _measure(
    clients: Sequence[Child], settings: FetchSettings, link: str, what: dict[str, object]
) -> CrowdResult | str:
    requests = 0
    for client in clients:  # one after the other: each finds out how many requests fill its time, alone
        client.tell(what)
        prepared = client.hear()
        if "left_out" in prepared:
            return f"left out: {what['transport']}: {prepared['left_out']}"
        requests = max(requests, int(prepared["prepared"]))
    alone, together, slowest = [], [], []
    verified = True
    for _ in range(settings.repeats):
        single = _burst(clients[:1], requests)
        alone.append(single.rate)
        crowd = _burst(clients, requests)
        together.append(crowd.rate)
        slowest.append(min(crowd.each) / statistics.fmean(crowd.each))
        verified = verified and single.verified and crowd.verified
    for client in clients:
        client.tell(0)
    rate = statistics.median(together)
    row_bytes = int(str(what["row_bytes"]))
    return CrowdResult(
        transport=str(what["transport"]),
        link=link,
        row_bytes=row_bytes,
        rows_per_request=int(str(what["rows"])),
        in_flight=int(str(what["in_flight"])),
        clients=len(clients),
        rows_per_second=rate,
        gigabytes_per_second=rate * row_bytes / 1e9,
        ratio_to_one_client=rate / statistics.median(alone),
        slowest_to_mean=statistics.median(slowest),
        verified=verified,
    )


class _Burst:
    """What came of as many requests from each client at once."""

    def __init__(self, answers: list[dict[str, float]], verified: bool) -> None:
        began = min(answer["began"] for answer in answers)
        ended = max(answer["ended"] for answer in answers)
        #: Rows a second of all, until the last has ended; and of each.
        self.rate = sum(answer["rows"] for answer in answers) / (ended - began)
        self.each = [answer["rows"] / (answer["ended"] - answer["began"]) for answer in answers]
        self.verified = verified


def _burst(clients: Sequence[Child], requests: int) -> _Burst:
    for client in clients:
        client.tell(requests)
    for client in clients:
        client.hear()
    for client in clients:
        client.tell("go")
    answers = [client.hear() for client in clients]
    for client in clients:
        client.tell("compare")
    return _Burst(answers, all([bool(client.hear()["verified"]) for client in clients]))
