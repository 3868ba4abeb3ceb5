"""Where the feature servers of a job listen: a list in the environment, or files that they write."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Union

from rudder.errors import ConfigError, TransportError

ENV_SERVERS = "RUDDER_FEATURE_SERVERS"
#: Host, port.
Place = tuple[str, int]


class Folder:
    """Files named by partition ("0", "1", ...), which `rudder serve --address-file` writes.

    They are read at each look, so servers may start after the trainers, and come back at another port.
    """

    def __init__(self, folder: Path) -> None:
        """``folder``: on a file system that all hosts share."""
        self._folder = folder

    def __getitem__(self, part: int) -> Place:
        """Raises TransportError where the server has written nothing (yet), ConfigError for other text."""
        path = self._folder / str(part)
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise TransportError(
                f"the feature server of partition {part} has not written {path}: {error.strerror}", part
            ) from error
        return parse_servers(text)[0]


Places = Union[Sequence[Place], Folder]


def places_of_job() -> Places:
    """What RUDDER_FEATURE_SERVERS says. Raises TransportError where it is not set, ConfigError."""
    named = os.environ.get(ENV_SERVERS)
    if not named:
        raise TransportError(f"no feature servers run ({ENV_SERVERS} is not set)")
    return Folder(Path(named)) if "/" in named else parse_servers(named)


def parse_servers(text: str) -> list[Place]:
    """``host:port,host:port`` by partition. Raises ConfigError."""
    found = []
    for item in text.split(","):
        host, _, port = item.strip().rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ConfigError(f"{ENV_SERVERS}: expected host:port, got {item!r}")
        found.append((host.strip("[]"), int(port)))
    return found
