"""Feature servers with the real UCX, for tests: rows in shared memory, `rudder serve`, a reader of rows."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from multiprocessing import shared_memory
from pathlib import Path

import numpy as np

import rudder
from rudder import _core
from rudder.serve.connector import Connector
from rudder.serve.places import Place, parse_servers

SECRET = "5" * 32
ROWS, ROW_BYTES = 5000, 512


class Segment:
    """Rows in shared memory, as DGL's server would hold them outside of a launched job."""

    def __init__(self, rows: int = ROWS) -> None:
        self.key = f"node~_N~x{uuid.uuid4().hex}"
        self.memory = shared_memory.SharedMemory(f"{self.key}-kvdata-", create=True, size=rows * ROW_BYTES)
        self.rows = np.frombuffer(self.memory.buf, dtype=np.uint8).reshape(rows, ROW_BYTES)
        self.rows[:] = np.random.default_rng(7).integers(0, 256, (rows, ROW_BYTES), dtype=np.uint8)

    def close(self) -> None:
        del self.rows
        self.memory.close()
        self.memory.unlink()


def stop(process: subprocess.Popen) -> None:
    """SIGSTOP a child; all its threads stand when this returns."""
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)


def environment() -> dict[str, str]:
    """For processes that shall import this rudder."""
    root = str(Path(rudder.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


class ServerProcess:
    """`rudder serve` as users run it."""

    def __init__(
        self,
        folder: Path,
        secret: str = SECRET,
        port: int = 0,
        start: tuple[str, ...] = ("-m", "rudder.cli"),
    ) -> None:
        self.address_file = folder / "1"
        self.address_file.unlink(missing_ok=True)
        command = ["--partition", "1", "--address", "127.0.0.1", "--address-file", str(self.address_file)]
        self.process = subprocess.Popen(
            [sys.executable, *start, "serve", *command, "--port", str(port)],
            env={**environment(), "RUDDER_SECRET": secret},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.ready = self.process.stdout.readline()

    @property
    def place(self) -> tuple[str, int]:
        return parse_servers(self.address_file.read_text())[0]

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@contextlib.contextmanager
def reading(connector: Connector, deadline: float = 20.0, rows: int = ROWS) -> Iterator[_core.Prefetcher]:
    """A prefetcher without a buffer whose rows of partition 1 come by the connector."""
    core = _core.Prefetcher(
        table=3,
        row_bytes=ROW_BYTES,
        part_starts=np.array([0, 0, rows]),
        local_part=0,
        local_rows=None,
        routes=[[], [connector.transport]],
        capacity_rows=0,
        window_rows=0,
        policy="none",
        deadline_s=deadline,
    )
    try:
        yield core
    finally:
        core.close()


def read(core: _core.Prefetcher, rows: np.ndarray) -> np.ndarray:
    out = np.empty((len(rows), ROW_BYTES), dtype=np.uint8)
    core.read(rows, out)
    return out


@contextlib.contextmanager
def connected(server: ServerProcess | Place, segment: Segment, secret: str = SECRET) -> Iterator[Connector]:
    """A client of partition 1, whose rows are its table 3."""
    place = server.place if isinstance(server, ServerProcess) else server
    with contextlib.closing(Connector([("127.0.0.1", 1), place], secret.encode(), own=0)) as connector:
        connector.open(1, 3, segment.key, ROWS, ROW_BYTES)
        yield connector
