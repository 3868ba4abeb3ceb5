"""Counts of what the door turned away, and few words in the log about it."""

from __future__ import annotations

import logging
import threading
import time

_log = logging.getLogger("rudder")
#: A kind of fault is logged at once, then at most this often: a flood must not fill a disk.
_LOG_EVERY_S = 60.0


class Tally:
    """Counters by kind of fault. Thread-safe."""

    def __init__(self) -> None:
        """Nothing has happened."""
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._logged: dict[str, tuple[float, int]] = {}

    def add(self, kind: str, peer: str, why: str) -> None:
        """Count a peer that was turned away, and log it where that kind was not logged lately."""
        now = time.monotonic()
        with self._lock:
            count = self._counts[kind] = self._counts.get(kind, 0) + 1
            at, before = self._logged.get(kind, (None, 0))
            if at is not None and now - at < _LOG_EVERY_S:
                return
            self._logged[kind] = (now, count)
        more = f" ({count - before - 1} more of this kind since the last such line)" if at is not None else ""
        _log.warning("feature server: dropped %s: %s%s", peer, why, more)

    def counts(self) -> dict[str, int]:
        """How many of each kind."""
        with self._lock:
            return dict(self._counts)
