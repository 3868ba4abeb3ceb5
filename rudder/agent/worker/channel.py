"""Lines over a socket that never blocks: what one side of the protocol holds of the other."""

from __future__ import annotations

import contextlib
import socket

from rudder.agent.worker.protocol import LONGEST_LINE, Message, from_line, to_line
from rudder.errors import FormatError

# Bytes that may wait for a peer that does not read; an ask is below a KiB.
_MOST_WAITING = 1 << 16
_READ_BYTES = 1 << 16
# Reads in one call, so that a peer that writes without end cannot hold its reader.
_MOST_READS = 64


class Channel:
    """One end of a stream socket. Used by one thread. `receive` and `send` return at once, always."""

    def __init__(self, end: socket.socket) -> None:
        """Take the socket over; `close` closes it."""
        end.setblocking(False)
        self._socket = end
        self._read = bytearray()
        self._unsent = b""
        self._scanned = 0

    def fileno(self) -> int:
        """For a selector."""
        return self._socket.fileno()

    @property
    def waiting(self) -> bool:
        """Whether something could not be sent yet."""
        return bool(self._unsent)

    def receive(self) -> list[Message | FormatError]:
        """What has come since the last call, malformed lines as the error that says so.

        Raises ConnectionError when the peer is gone and all that it said was returned before, or when it
        sends a line without end.
        """
        found: list[Message | FormatError] = []
        for _ in range(_MOST_READS):
            try:
                data = self._socket.recv(_READ_BYTES)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                if found:
                    break
                raise ConnectionError(f"the connection broke: {error}") from error
            if not data:
                if found:
                    break  # the next call says it
                raise ConnectionError("the other side has ended")
            self._read += data
            found += self._lines()
            if len(self._read) > LONGEST_LINE:
                raise ConnectionError(f"a line of more than {LONGEST_LINE} bytes")
        return found

    def send(self, message: Message) -> bool:
        """Send, now or by later calls of `flush`; False where too much waits already, and nothing was taken.

        Raises ConnectionError when the peer is gone.
        """
        self.flush()
        if len(self._unsent) > _MOST_WAITING:
            return False
        self._unsent += to_line(message)
        self.flush()
        return True

    def flush(self) -> None:
        """Send what waits, as far as the peer takes it. Raises ConnectionError when it is gone."""
        while self._unsent:
            try:
                sent = self._socket.send(self._unsent, socket.MSG_NOSIGNAL)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                raise ConnectionError(f"the connection broke: {error}") from error
            self._unsent = self._unsent[sent:]

    def close(self) -> None:
        """Idempotent."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def _lines(self) -> list[Message | FormatError]:
        """Complete lines of what was read; the rest stays."""
        found: list[Message | FormatError] = []
        while (end := self._read.find(b"\n", self._scanned)) >= 0:
            line = bytes(self._read[:end])
            del self._read[: end + 1]
            self._scanned = 0
            try:
                found.append(from_line(line))
            except FormatError as error:
                found.append(error)
        self._scanned = len(self._read)
        return found
