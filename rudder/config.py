"""Settings that users write, turned into numbers: sizes, capacities, folders named by the environment."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Union

from rudder.errors import ConfigError

#: A fraction of the halo (float), rows (int), or memory ("2GiB", "512MB", "25%" of the halo).
Capacity = Union[float, int, str]

#: Folder of metrics files; `rudder launch` sets it.
ENV_OUT = "RUDDER_OUT"
#: Tells the runs apart that used one folder of metrics; `rudder launch` sets it, anew for each job.
ENV_RUN = "RUDDER_RUN"
#: Folder of recorded accesses; `rudder launch --record` sets it.
ENV_RECORD = "RUDDER_RECORD"
#: Name of a controller, for scripts that name none; `rudder launch --controller` sets it.
ENV_CONTROLLER = "RUDDER_CONTROLLER"
#: Where the boards of a host's trainers lie, on which they share memory: the beginning of their paths;
#: `rudder launch` sets it.
ENV_SHARES = "RUDDER_SHARES"
#: "1": trainers share memory, where scripts do not say; `rudder launch --share-memory` sets it.
ENV_SHARE_MEMORY = "RUDDER_SHARE_MEMORY"

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b\s*", re.IGNORECASE)
_PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_bytes(size: int | str) -> int:
    """Bytes of ``size``: a number, or text as "2GiB" (powers of 1024) or "512MB" (powers of 1000).

    Raises ConfigError for anything else.
    """
    if isinstance(size, int) and not isinstance(size, bool):
        if size < 0:
            raise ConfigError(f"a size cannot be negative: {size}")
        return size
    match = _SIZE.fullmatch(size) if isinstance(size, str) else None
    if match is None:
        raise ConfigError(f"{size!r} is not a size: write bytes as a number, or text such as '2GiB', '512MB'")
    number, prefix, binary = match.groups()
    base = 1024 if binary else 1000
    return int(float(number) * base ** _POWER[prefix.lower()])


def rows_of_capacity(capacity: Capacity, *, halo_rows: int, remote_rows: int, row_bytes: int) -> int:
    """Rows that ``capacity`` stands for, never more than the ``remote_rows`` that there are.

    A float is a fraction of ``halo_rows``, an int is rows, text is memory ("2GiB") or a percentage of the
    halo ("25%").
    """
    if isinstance(capacity, str):
        percent = _PERCENT.fullmatch(capacity)
        if percent is None:
            return min(parse_bytes(capacity) // row_bytes, remote_rows)
        capacity = float(percent.group(1)) / 100.0
    if isinstance(capacity, bool) or not isinstance(capacity, (int, float)):
        raise ConfigError(
            f"capacity {capacity!r}: write a fraction of the halo (0.25), rows (100000) or memory ('2GiB')"
        )
    if isinstance(capacity, int):
        rows = capacity
    else:
        if not 0.0 <= capacity <= 1000.0:
            raise ConfigError(f"capacity {capacity!r} as a fraction of the halo must lie in [0, 1000]")
        # Rounded down, but not by the error of a product such as 0.29 * 100.
        rows = int(capacity * halo_rows + 1e-6)
    if rows < 0:
        raise ConfigError(f"capacity of {rows} rows: it cannot be negative")
    return min(rows, remote_rows)


def folder_from(setting: str | os.PathLike[str] | None, variable: str) -> Path | None:
    """The folder that a caller named, else the one that environment ``variable`` names, else None."""
    text = os.fspath(setting) if setting is not None else os.environ.get(variable, "")
    return Path(text) if text else None
