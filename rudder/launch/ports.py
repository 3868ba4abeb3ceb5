"""Ports for DGL's servers and for torch.distributed's rendezvous."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection, Iterable

from rudder.errors import LaunchError

# Below the range from which the kernel hands out ports by itself (32768 and up): between our look and the
# server's bind, seconds later, nobody gets one of these by chance.
_FIRST, _LAST = 20000, 32000


def free_port(address: str, count: int = 1, *, but: Collection[int] = ()) -> int:
    """First of `count` ports in a row that are free at `address` now; none of them in `but`, which others
    of the job will bind. Raises LaunchError where there are none."""
    start = random.SystemRandom().randrange(_FIRST, _LAST)
    for step in range(_LAST - _FIRST):
        port = _FIRST + (start - _FIRST + step) % (_LAST - _FIRST - count)
        wanted = range(port, port + count)
        if not any(each in but or _refusal(address, each) is not None for each in wanted):
            return port
    raise LaunchError(f"no {count} free ports in a row between {_FIRST} and {_LAST} at {address}")


def check_ports(wanted: Iterable[tuple[str, int]]) -> None:
    """Raise LaunchError naming the first of these addresses and ports that cannot be had, or is wanted
    twice."""
    seen: set[tuple[str, int]] = set()
    for address, port in wanted:
        twice = (address, port) in seen
        seen.add((address, port))
        reason = "the job wants it twice" if twice else _refusal(address, port)
        if reason is not None:
            raise LaunchError(f"port {port} at {address} cannot be had: {reason}; choose another with --port")


def _refusal(address: str, port: int) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Connections of a finished job linger for a minute; they do not stop a server, and must not stop us.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError as error:
            return error.strerror
    return None
