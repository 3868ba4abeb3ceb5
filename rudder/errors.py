"""Every error that Rudder raises. The compiled core raises these same classes."""

from __future__ import annotations

from collections.abc import Sequence


class RudderError(Exception):
    """Base of all errors of this package."""


class ConfigError(RudderError, ValueError):
    """A setting that cannot work; the message says which values can."""


class IdError(RudderError, IndexError):
    """A node or edge id outside its table."""


class ArenaError(RudderError, MemoryError):
    """Memory for rows could not be had."""


class StateError(RudderError, RuntimeError):
    """Calls in an order that the interface rules out."""


class ClosedError(StateError):
    """Used after close."""


class FormatError(RudderError, ValueError):
    """A file that cannot be read: truncated, corrupt or of another version."""


class TransportError(RudderError, ConnectionError):
    """Rows could not be fetched.

    `part` and `ids` name them, and `place` where they come from (``"10.0.0.2:7000"``), where that is known.
    """

    def __init__(
        self, message: str, part: int | None = None, ids: Sequence[int] = (), place: str = ""
    ) -> None:
        """Keep partition, (some of) the ids and the place beside the message."""
        super().__init__(message)
        self.part = part
        self.ids = list(ids)
        self.place = place


class DeadlineError(TransportError, TimeoutError):
    """A peer did not answer within the deadline."""


class DeviceError(RudderError, RuntimeError):
    """A GPU reported an error, of this call or of work that was still under way."""


class LaunchError(RudderError, RuntimeError):
    """A job could not be started: a port is taken, a right or program is missing, a host does not answer."""


class AgentError(RudderError, RuntimeError):
    """The agent's model could not be run, or did not decide in time. Training goes on without it."""


class VerifyError(RudderError, AssertionError):
    """Rows differ from what the stock pull returns (``verify=True``)."""
