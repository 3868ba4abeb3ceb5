"""A plain TCP stream of as many bytes: what the link and the kernel give to anybody.

client: token, then for each stream (bytes, bytes of a write)      server: the bytes
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import socket
import struct
import threading
import time

from rudder.errors import TransportError
from rudder.source import Bytes

_ORDER = struct.Struct("!QQ")
_TOKEN_BYTES = 32
#: Sizes of a write that are tried; the fastest counts.
CHUNKS = (256 << 10, 1 << 20, 4 << 20)
# Enough for both sides to be under way, little enough for a slow link.
TRIAL_BYTES = 16 << 20
_PATIENCE_S = 30.0


class StreamServer:
    """Sends what is asked for, from a table, one thread for each connection."""

    def __init__(self, rows: Bytes, address: str, port: int = 0) -> None:
        """Listen there. Raises TransportError."""
        self._bytes = rows.reshape(-1).data
        #: What a client must say first.
        self.token = secrets.token_bytes(_TOKEN_BYTES)
        self._listener = listen(address, port)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._run, name="bench-streams", daemon=True).start()

    def close(self) -> None:
        """Stop listening. Streams under way end with their clients."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError, EOFError):
            sock.settimeout(_PATIENCE_S)
            if not hmac.compare_digest(_read(sock, _TOKEN_BYTES), self.token):
                return
            sock.settimeout(None)
            while True:
                left, chunk = _ORDER.unpack(_read(sock, _ORDER.size))
                if chunk == 0:
                    return  # writes of nothing have no end
                at = 0
                while left > 0:
                    end = min(at + min(chunk, left), len(self._bytes))
                    sock.sendall(self._bytes[at:end])
                    left -= end - at
                    at = end % len(self._bytes)


class StreamClient:
    """Receives streams from several peers at once, each its share."""

    def __init__(self, places: list[tuple[str, int, bytes]]) -> None:
        """``places``: host, port and token of each peer. Raises TransportError."""
        self._socks = []
        #: Bytes of a write; `choose_chunk` finds the best.
        self.chunk = CHUNKS[0]
        try:
            for host, port, token in places:
                sock = socket.create_connection((host, port), _PATIENCE_S)
                sock.sendall(token)
                self._socks.append(sock)
        except OSError as error:
            raise TransportError(f"no stream from {host}:{port}: {error}") from error

    def choose_chunk(self, out: Bytes) -> int:
        """Try the sizes of a write, and keep the fastest."""
        count = min(out.nbytes, TRIAL_BYTES)
        self.receive(out, count)
        seconds = {}
        for chunk in CHUNKS:
            self.chunk = chunk
            seconds[chunk] = min(self.receive(out, count) for _ in range(2))
        self.chunk = min(CHUNKS, key=seconds.__getitem__)
        return self.chunk

    def receive(self, out: Bytes, count: int) -> float:
        """Seconds until ``count`` bytes have arrived in ``out``. Raises TransportError."""
        view = out.reshape(-1).data[:count]
        shares = [(count * i // len(self._socks)) for i in range(len(self._socks) + 1)]
        failures: list[Exception] = []

        def take(sock: socket.socket, part: memoryview) -> None:
            try:
                sock.sendall(_ORDER.pack(len(part), self.chunk))
                while len(part):
                    got = sock.recv_into(part[: self.chunk])
                    if got == 0:
                        raise ConnectionResetError("the peer closed the stream")
                    part = part[got:]
            except OSError as error:
                failures.append(error)

        jobs = [(sock, view[shares[i] : shares[i + 1]]) for i, sock in enumerate(self._socks)]
        # The first on this thread: with one peer there is no other.
        threads = [threading.Thread(target=take, args=job) for job in jobs[1:]]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        take(*jobs[0])
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - began
        if failures:
            raise TransportError(f"the raw stream broke: {failures[0]}") from failures[0]
        return seconds

    def close(self) -> None:
        """End the streams."""
        for sock in self._socks:
            sock.close()


def listen(address: str, port: int) -> socket.socket:
    """A listening socket. Raises TransportError, saying what to do where the port is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise TransportError(
            f"cannot listen at {address} port {port}: {error.strerror or error}; choose another with --port "
            "and --address"
        ) from error
    return listener


def _read(sock: socket.socket, count: int) -> bytes:
    found = bytearray()
    while len(found) < count:
        data = sock.recv(count - len(found))
        if not data:
            raise EOFError
        found += data
    return bytes(found)
