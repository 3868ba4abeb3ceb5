"""The forms of the benchmark: everything on this machine, on both ends of a shaped link, or against peers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rudder.bench.children import Child, job
from rudder.bench.crowd import measure_crowd
from rudder.bench.result import CrowdResult, FetchResult, Report
from rudder.bench.settings import FetchSettings
from rudder.launch import netns
from rudder.serve.secret import new_secret, secret_of_job

_PEER = "rudder.bench.peer"
_CLIENT = "rudder.bench.client"

Tell = Callable[[str], None]


@dataclass(frozen=True)
class _Stage:
    """Peers that run, and how to start a client that reaches them."""

    places: list[tuple[str, int]]
    link: str
    iperf: bool
    start_client: Callable[[], Child]


def run(
    settings: FetchSettings,
    *,
    link: str | None = None,
    connect: Sequence[tuple[str, int]] = (),
    clients: int = 1,
    tell: Tell = lambda words: None,
) -> Report:
    """Measure. Raises RudderErrors that say what to do.

    Without ``link`` and ``connect``, peers are processes of this machine, reached over loopback. ``link``:
    the rate of a shaped link to peers in namespaces of their own ("1gbit"; root). ``connect``: peers that
    `rudder bench fetch --server` runs. ``clients``: above 1, so many at once beside one alone, in place of
    the sweep.
    """
    if connect:
        stage = _given(connect)
    elif link is not None:
        stage = _namespaces(max(settings.peers), link)
    else:
        stage = _loopback(max(settings.peers))
    with stage as ready:
        return _crowd(ready, settings, clients, tell) if clients > 1 else _sweep(ready, settings, tell)


def _sweep(stage: _Stage, settings: FetchSettings, tell: Tell) -> Report:
    results: list[FetchResult] = []
    notes: list[str] = []
    with contextlib.closing(stage.start_client()) as client:
        client.tell(_request("sweep", stage, settings))
        while "done" not in (heard := client.hear()):
            if "result" in heard:
                results.append(FetchResult(**heard["result"]))
            elif "note" in heard:
                notes.append(heard["note"])
            else:
                tell(heard["progress"])
    return Report(results, [], notes)


def _crowd(stage: _Stage, settings: FetchSettings, count: int, tell: Tell) -> Report:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(contextlib.closing(stage.start_client())) for _ in range(count)]
        for client in clients:
            client.tell(_request("crowd", stage, settings))
        for client in clients:
            client.hear()
        found: list[CrowdResult] = []
        notes: list[str] = []
        for outcome in measure_crowd(clients, settings, stage.link, tell):
            if isinstance(outcome, str):
                notes.append(outcome)
            else:
                found.append(outcome)
    return Report([], found, notes)


def _request(mode: str, stage: _Stage, settings: FetchSettings) -> dict[str, object]:
    return {
        "mode": mode,
        "places": stage.places,
        "settings": settings.as_json(),
        "link": stage.link,
        "iperf": stage.iperf,
    }


@contextlib.contextmanager
def _loopback(peers: int) -> Iterator[_Stage]:
    secret = new_secret()
    with job() as name, contextlib.ExitStack() as stack:
        places = []
        for _ in range(peers):
            peer = stack.enter_context(contextlib.closing(Child(_PEER, name, secret)))
            places.append(("127.0.0.1", _start_peer(peer, "127.0.0.1")))
        yield _Stage(places, "loopback", False, lambda: Child(_CLIENT, name, secret))


@contextlib.contextmanager
def _namespaces(peers: int, rate: str) -> Iterator[_Stage]:
    """Peers and clients, each in namespaces of its own on one bridge."""
    netns.check_possible(rate)
    secret = new_secret()
    with job() as name, netns.Network(rate) as network, contextlib.ExitStack() as stack:

        def start(module: str, host: int) -> Child:
            child = Child(module, name, secret, around=netns.isolated())
            try:
                network.attach(host, child.pid)
            except BaseException:
                child.close()
                raise
            return child

        places = []
        for host in range(1, peers + 1):
            peer = stack.enter_context(contextlib.closing(start(_PEER, host)))
            places.append((netns.address(host), _start_peer(peer, netns.address(host))))
        # Clients are hosts, too; numbers of their own keep their addresses apart.
        numbers = iter((0, *range(peers + 1, 200)))
        yield _Stage(places, rate, True, lambda: start(_CLIENT, next(numbers)))


@contextlib.contextmanager
def _given(places: Sequence[tuple[str, int]]) -> Iterator[_Stage]:
    secret = secret_of_job().decode()
    with job() as name:
        link = ",".join(dict.fromkeys(host for host, _ in places))
        yield _Stage(list(places), link, False, lambda: Child(_CLIENT, name, secret))


def _start_peer(peer: Child, address: str) -> int:
    peer.tell({"address": address, "port": 0})
    return int(peer.hear()["port"])
