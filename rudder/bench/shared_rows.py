"""A table in POSIX shared memory, as DistDGL's servers hold theirs."""

from __future__ import annotations

import contextlib
import mmap
import os

import numpy as np

from rudder.bench.rows import fill, table_name
from rudder.errors import TransportError
from rudder.integrations.dgl_hosts import kvdata_segment
from rudder.source import Bytes

_SHM = "/dev/shm"


class SharedRows:
    """A segment of this job, filled from the seed; it is removed by `close`, or when the job is swept."""

    def __init__(self, seed: int, peer: int, rows: int, row_bytes: int) -> None:
        """Raises TransportError where there is no room."""
        #: POSIX name, as shm_open spells it: a feature server takes it for a tensor of the peer's DGL server.
        self.segment = kvdata_segment(peer, table_name(seed, peer, rows, row_bytes))
        self._path = _SHM + self.segment
        size = rows * row_bytes
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise TransportError(f"no table in {_SHM}: {error.strerror}") from error
        try:
            os.posix_fallocate(fd, 0, size)  # otherwise the first write without room would kill the process
            self._map = mmap.mmap(fd, size)
        except OSError as error:
            os.unlink(self._path)
            raise TransportError(
                f"no room for a table of {size >> 20} MiB in {_SHM} ({error.strerror}): choose --table-bytes"
            ) from error
        finally:
            os.close(fd)
        #: uint8 [rows, row_bytes].
        self.rows: Bytes = np.frombuffer(self._map, dtype=np.uint8).reshape(rows, row_bytes)
        fill(self.rows, seed, peer)

    def close(self) -> None:
        """Remove the name; the memory goes with its last user."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
