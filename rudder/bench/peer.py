"""The far side of the benchmark: a process with tables, and whatever serves their rows.

Run by the one-machine forms as `python -m rudder.bench.peer`, with the secret in the environment: it writes
where it listens, and ends with its parent. `rudder bench fetch --server` runs the same thing.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import sys
import threading
from typing import Any

from rudder.bench.channel import Channel, admit
from rudder.bench.cpu import cpu_seconds
from rudder.bench.outlet import Outlet
from rudder.bench.programs import DglServer, IperfServer
from rudder.bench.raw_stream import StreamServer, listen
from rudder.bench.rows import table_name
from rudder.bench.shared_rows import SharedRows
from rudder.errors import ConfigError, RudderError, TransportError
from rudder.launch.child import die_with_parent
from rudder.launch.ports import free_port
from rudder.serve.door import Door
from rudder.serve.process import ServeSettings, serving
from rudder.serve.secret import secret_of_job

_log = logging.getLogger("rudder")
# Clients at once: those of --clients, and strangers who have proved nothing.
_CLIENTS = 64
# More than a sweep has sizes of rows.
_TABLES = 64


class Peer:
    """Serves clients from construction until `close`. Its methods are thread-safe."""

    def __init__(self, secret: bytes, address: str, port: int = 0) -> None:
        """Listen for clients there (port 0: any free one). Raises TransportError where that cannot be had."""
        self._secret, self._address = secret, address
        self._lock = threading.Lock()  # guards what follows
        self._tables: dict[str, SharedRows] = {}
        self._streams: dict[str, StreamServer] = {}
        self._doors: dict[int, Door] = {}
        self._serving = contextlib.ExitStack()
        self._programs: list[DglServer | IperfServer] = []
        self._channels: set[Channel] = set()
        self._room = threading.Semaphore(_CLIENTS)
        self._listener = listen(address, port)
        #: Where it listens.
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        threading.Thread(target=self._run, name="bench-peer", daemon=True).start()

    def close(self) -> None:
        """End everything. Idempotent."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            channels = list(self._channels)
        for channel in channels:
            channel.close()
        with self._lock:
            self._forget()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if not self._room.acquire(blocking=False):
                sock.close()
                continue
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            channel = admit(sock, self._secret)
        except TransportError as error:
            _log.warning("%s", error)
            sock.close()
            self._room.release()
            return
        with self._lock:
            self._channels.add(channel)
        try:
            channel.wait_for_requests()
            while (request := channel.receive()) is not None:
                channel.send(self._answer(request))
        except TransportError as error:
            _log.info("%s", error)
        finally:
            channel.close()
            self._leave(channel)
            self._room.release()

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        handler = getattr(self, f"_do_{request.pop('do', '')}", None)
        if handler is None:
            return {
                "error": "no such request: use the same rudder on both machines",
                "kind": "ConfigError",
            }
        try:
            answer: dict[str, Any] = handler(**request)
            return answer
        except RudderError as error:
            return {"error": str(error), "kind": type(error).__name__}
        except (TypeError, ValueError, KeyError) as error:
            return {"error": f"{type(error).__name__}: {error}", "kind": "ConfigError"}

    def _do_table(self, seed: int, peer: int, rows: int, row_bytes: int) -> dict[str, Any]:
        name = table_name(seed, peer, rows, row_bytes)
        if rows < 1 or row_bytes < 1:
            raise ConfigError(f"a table of {rows} rows of {row_bytes} bytes")
        with self._lock:
            if name not in self._tables:
                if len(self._tables) == _TABLES:
                    raise ConfigError(f"it holds {_TABLES} tables, and no more")
                self._tables[name] = SharedRows(seed, peer, rows, row_bytes)
            return {"name": name, "segment": self._tables[name].segment}

    def _do_drop(self, name: str) -> dict[str, Any]:
        with self._lock:
            self._tables.pop(name).close()
            stream = self._streams.pop(name, None)
        if stream is not None:
            stream.close()
        return {}

    def _do_stream(self, name: str) -> dict[str, Any]:
        with self._lock:
            if name not in self._streams:
                self._streams[name] = StreamServer(self._tables[name].rows, self._address)
            stream = self._streams[name]
        return {"port": stream.port, "token": stream.token.hex()}

    def _do_ucx(self, peer: int) -> dict[str, Any]:
        with self._lock:
            if peer not in self._doors:
                settings = ServeSettings(partition=peer, address=self._address)
                self._doors[peer] = self._serving.enter_context(serving(settings, self._secret))
            return {"port": self._doors[peer].address[1]}

    def _do_dgl_port(self) -> dict[str, Any]:
        return {"port": free_port(self._address)}

    def _do_dgl(self, **spec: Any) -> dict[str, Any]:
        server = DglServer(spec)
        with self._lock:
            self._programs.append(server)
        return {}

    def _do_iperf(self) -> dict[str, Any]:
        server = IperfServer(self._address)
        with self._lock:
            self._programs.append(server)
        return {"port": server.port}

    def _do_cpu(self) -> dict[str, Any]:
        with self._lock:
            pids = [program.pid for program in self._programs]
        return {"seconds": cpu_seconds(pids)}

    def _leave(self, channel: Channel) -> None:
        """A client is gone; with the last one goes what was made for them."""
        with self._lock:
            self._channels.discard(channel)
            if not self._channels:
                # At once: another client may come any moment, and what it asks for is its own.
                self._forget()

    def _forget(self) -> None:
        """Let everything go that was made for clients. REQUIRES: locked, until all of it is gone."""
        self._doors = {}
        streams, self._streams = self._streams, {}
        tables, self._tables = self._tables, {}
        programs, self._programs = self._programs, []
        for program in programs:
            program.close()
        self._serving.close()
        for stream in streams.values():
            stream.close()
        for table in tables.values():
            table.close()


def main() -> None:
    """Entry point: {"address", "port"} on the first line of stdin; ends when stdin does."""
    die_with_parent(int(os.environ.pop("RUDDER_PARENT")))
    spec = json.loads(sys.stdin.readline())
    outlet = Outlet()
    try:
        peer = Peer(secret_of_job(), spec["address"], spec["port"])
    except RudderError as error:
        outlet.send(error=str(error), kind=type(error).__name__)
        sys.exit(1)
    outlet.send(port=peer.address[1])
    sys.stdin.read()
    peer.close()


if __name__ == "__main__":
    main()
