"""The feature server of one host, as a process: serves one partition's tables until it is told to end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rudder import ucx
from rudder.config import parse_bytes
from rudder.errors import ConfigError
from rudder.integrations.dgl_hosts import kvdata_segment
from rudder.serve.door import Door
from rudder.serve.feature_server import FeatureServer
from rudder.serve.secret import ENV_SECRET, secret_of_job


@dataclass(frozen=True)
class ServeSettings:
    """What a feature server may be told. Its secret is none of it: see `secret`."""

    #: Number of the partition whose tables this host's DGL server holds in shared memory.
    partition: int
    #: Address of the job's network; the server listens there and nowhere else.
    address: str
    #: 0: any free one.
    port: int = 0
    #: Write ``host:port`` to this file once it serves.
    address_file: str | None = None
    #: Threads that gather rows.
    threads: int = 2
    #: Memory of rows that wait to be sent, in bytes or as text ("64MiB"); None: as the transport has it.
    staging: int | str | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError for values that cannot work."""
        for name, value, least in (
            ("partition", self.partition, 0),
            ("port", self.port, 0),
            ("threads", self.threads, 1),
        ):
            if value < least:
                raise ConfigError(f"a feature server with {name} {value}: it must be at least {least}")


@contextmanager
def serving(settings: ServeSettings, secret: bytes) -> Iterator[Door]:
    """A feature server in this process, for as long as the context lasts.

    Raises TransportError where UCX is not usable or the address cannot be had, ConfigError.
    """
    compiled = ucx.load()
    devices = ucx.devices(settings.address)
    if not devices and "UCX_NET_DEVICES" not in os.environ:
        raise ConfigError(
            f"no network interface of this machine holds {settings.address} (an IPv4 address is needed), and "
            "a feature server binds to no other; UCX_NET_DEVICES names one by hand"
        )
    options: dict[str, Any] = {"devices": devices, "threads": settings.threads}
    if settings.staging is not None:
        options["staging_bytes"] = parse_bytes(settings.staging)
    with closing(compiled.UcxServer(**options)) as rows:
        ucx.tell_if_open(rows.why_open)

        def segment_of(name: str) -> str:
            return kvdata_segment(settings.partition, name)

        service = FeatureServer(rows, settings.partition, segment_of, compiled.library_version())
        with closing(Door(service, secret, settings.address, settings.port)) as door:
            if settings.address_file is not None:
                _write(Path(settings.address_file), "{}:{}\n".format(*door.address))
            yield door


def serve(settings: ServeSettings) -> None:
    """Serve until SIGTERM or SIGINT. Call it on the main thread. Raises as `serving`."""
    secret = secret_of_job()
    os.environ.pop(ENV_SECRET, None)  # nothing that this process starts needs it
    over = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        over.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with serving(settings, secret) as door:
        host, port = door.address
        print(f"ready: partition {settings.partition} is served at {host}:{port}", flush=True)
        over.wait()


def _write(path: Path, text: str) -> None:
    """Whoever reads the file finds all of it, or none. Raises ConfigError where it cannot be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(f"the address file {path} cannot be written: {error.strerror}") from error
