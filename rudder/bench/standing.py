"""The far side of the two-machine form: a peer that stands until it is stopped, and its secret."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from rudder.bench.children import job
from rudder.bench.peer import Peer
from rudder.serve.secret import ENV_SECRET, ENV_SECRET_FILE, new_secret, secret_of_job

# Of TEST-NET-1, which nobody has: connecting a datagram socket looks up the route, and sends nothing.
_NOBODY = ("192.0.2.1", 9)


@dataclass(frozen=True)
class Standing:
    """Where the peer listens, and how a client gets to know the secret: a variable for its environment."""

    address: tuple[str, int]
    how_to_know: str


@contextlib.contextmanager
def standing_peer(address: str, port: int) -> Iterator[Standing]:
    """A peer in this process. Its secret is the environment's, or a new one in a file of mode 0600.

    Raises TransportError where it cannot listen there, ConfigError for a secret that will not do.
    """
    with contextlib.ExitStack() as stack:
        if ENV_SECRET in os.environ or ENV_SECRET_FILE in os.environ:
            secret, known = secret_of_job(), f"{ENV_SECRET}=... (as here)"
        else:
            made = new_secret()
            file = stack.enter_context(tempfile.NamedTemporaryFile("w", prefix="rudder-secret-"))
            file.write(made)
            file.flush()
            secret, known = made.encode(), f"{ENV_SECRET_FILE}=COPY_OF_{file.name}"
        os.environ["RUDDER_JOB"] = stack.enter_context(job())
        peer = stack.enter_context(contextlib.closing(Peer(secret, address, port)))
        yield Standing(peer.address, known)


def own_address() -> str:
    """This machine's address on the way to others; loopback where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_NOBODY)
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
