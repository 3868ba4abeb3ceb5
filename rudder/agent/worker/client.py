"""A trainer's connection to a keeper: its host's, or one of its own. Only `wait` and `close` wait."""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess

from rudder.agent.worker.channel import Channel
from rudder.agent.worker.protocol import VERSION, Ask, Hello, Message
from rudder.agent.worker.settings import WorkerSettings
from rudder.agent.worker.start import start_keeper
from rudder.errors import AgentError, FormatError

#: Where the launcher tells a trainer that its host's keeper listens.
ENV_ADDRESS = "RUDDER_AGENT"
# A keeper ends as soon as its trainer's socket does; one that was stopped is killed.
_END_S = 2.0


class Client:
    """One trainer's side. Used by one thread."""

    def __init__(self, settings: WorkerSettings, trainer: str) -> None:
        """Connect to the keeper at ``settings.address``, or start one where that is "".

        Raises AgentError where no process can be started; a keeper that does not listen yet is tried again.
        """
        self._trainer = trainer
        self._address = settings.address
        self._keeper: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._greeted = False
        if self._address:
            with contextlib.suppress(ConnectionError):
                self._connect()
            return
        try:
            self._keeper, end = start_keeper(settings)
        except OSError as error:
            raise AgentError(f"the agent's process cannot be started: {error}") from error
        self._open(end)

    @property
    def for_good(self) -> bool:
        """Is a connection that broke the last one? A keeper of one's own is not started twice."""
        return not self._address

    @property
    def keeper(self) -> int | None:
        """Process id of the keeper that this client started."""
        return self._keeper.pid if self._keeper is not None else None

    def ask(self, ask: Ask) -> bool:
        """Send it; False: the keeper has stopped reading, nothing was sent. Raises ConnectionError."""
        return self._connected().send(ask)

    def receive(self) -> list[Message | FormatError]:
        """What has come. Raises ConnectionError: there is no keeper, or it speaks another version."""
        channel = self._connected()
        try:
            said = channel.receive()
            channel.flush()
        except ConnectionError:
            self._drop()
            raise
        for message in said:
            if isinstance(message, Hello):
                self._greeted = message.version == VERSION
            if not self._greeted:
                self._drop()
                self._address = ""  # it will not learn another one
                raise ConnectionError(
                    f"the keeper does not speak version {VERSION} of the protocol: {message}"
                )
        return said

    def wait(self, seconds: float) -> None:
        """Until something has come, or the connection broke, or so long. For measurements and tests.

        Raises ConnectionError: there is no keeper.
        """
        poll = select.poll()
        poll.register(self._connected(), select.POLLIN)
        poll.poll(1000 * seconds)

    def close(self) -> None:
        """Leave; end a keeper of one's own. Idempotent."""
        self._drop()
        self._address = ""
        if self._keeper is not None:
            try:
                self._keeper.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._keeper.kill()
                self._keeper.wait()
            self._keeper = None

    def _connected(self) -> Channel:
        if self._channel is None:
            if not self._address:
                raise ConnectionError("the agent's keeper has ended")
            self._connect()
        assert self._channel is not None
        return self._channel

    def _connect(self) -> None:
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        end.setblocking(False)
        try:
            end.connect(self._address)
        except OSError as error:
            end.close()
            raise ConnectionError(
                f"no agent's keeper at {self._address}: {error.strerror or error}"
            ) from error
        self._open(end)

    def _open(self, end: socket.socket) -> None:
        self._greeted = False
        self._channel = Channel(end)
        self._channel.send(Hello(VERSION, self._trainer))

    def _drop(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
