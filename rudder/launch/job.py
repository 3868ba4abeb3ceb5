"""Runs a job whose machines are reached in any way: starts them all, decides who failed first, and stops
the rest.

Rules: the job succeeds when every trainer ended with 0. The first process that ends otherwise fails it, and
everything is stopped at once. Servers end by themselves when the trainers are done (the first one tells
them); those that do not are stopped. A feature server or an agent that ends early is worth a warning, no
more.
"""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rudder.errors import LaunchError
from rudder.launch import features, keepers
from rudder.launch.events import Broken, Event, Exited, Line
from rudder.launch.plan import Process

OnLine = Callable[[Line], None]
# Roles whose processes a job can do without, and what it does then.
_DISPENSABLE = {
    features.ROLE: "its partition's rows come by the next transport",
    keepers.ROLE: "the last good plan stays",
}
# How long a script may take to end after SIGINT or SIGTERM (a checkpoint, say), and servers after the last
# trainer.
GRACE_S = 10.0
# After the first failure others may be about to report theirs, which then turns out to be earlier.
_HEAR_OUT_S = 0.5
_TICK_S = 0.2


class Machine(Protocol):
    """The processes of a job on one machine: a `Supervisor` here, or an agent elsewhere."""

    def signal(self, role: str, number: int) -> None:
        """Send a signal to the live processes of a role."""

    def stop(self) -> None:
        """Kill whatever still runs there and clean up."""

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until that is done; False on timeout."""


@dataclass(frozen=True)
class ProcessStatus:
    """How one process of the job ended. `code` None: it was never seen to end."""

    name: str
    role: str
    host: int
    rank: int
    code: int | None
    traceback: str = ""
    stopped: bool = False  # by the launcher, so its code says nothing


@dataclass(frozen=True)
class JobResult:
    """How the job ended. `exit_code` is 0, the first failure's, or 128 + the signal that stopped the job."""

    exit_code: int
    statuses: list[ProcessStatus]
    failed: ProcessStatus | None = None
    reason: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether every trainer ended with 0."""
        return self.exit_code == 0

    def raise_for_failure(self) -> None:
        """Raise LaunchError with the first failure's traceback unless the job succeeded."""
        if not self.ok:
            raise LaunchError(self.reason)


class StopRequest:
    """Asks a running job to end, as Ctrl-C does. Any thread or signal handler may call `set`."""

    def __init__(self) -> None:
        """Nothing requested yet."""
        self.signals: list[int] = []

    def set(self, number: int = signal.SIGINT) -> None:
        """First call: forward the signal to the trainers and give them time. Second call: kill at once."""
        self.signals.append(number)

    def on_signals(self) -> None:
        """Let SIGINT, SIGTERM and SIGHUP of this process ask. Call it on the main thread."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda received, frame: self.set(received))


class JobRun:
    """One run over machines that were started with `emit` as their outlet."""

    def __init__(
        self, processes: Sequence[Process], on_line: OnLine | None, stop: StopRequest | None
    ) -> None:
        """`on_line` is called on the thread that calls `finish`."""
        self._processes = {process.name: process for process in processes}
        self._on_line = on_line
        self._stop = stop or StopRequest()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._exits: dict[str, Exited] = {}
        self._failures: list[tuple[float, str]] = []
        self._broken = ""
        self._stopped_at: float | None = None
        self._stopping = False
        self._errors: dict[str, list[str]] = {name: [] for name in self._processes}
        self._begin = time.monotonic()

    def emit(self, event: Event) -> None:
        """Outlet for the machines' events; any thread."""
        self._events.put(event)

    def finish(self, machines: Sequence[Machine]) -> JobResult:
        """Watch the job to its end, stop all machines, and tell how it went."""
        forwarded = 0
        try:
            while not self._over():
                forwarded = self._forward(machines, forwarded)
                self._take_event(_TICK_S)
            if self._failures:
                self._drain_for(_HEAR_OUT_S)
        finally:
            stopping = time.time()
            self._stopping = True
            for machine in machines:
                machine.stop()
            threads = [threading.Thread(target=machine.wait, daemon=True) for machine in machines]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self._drain_for(0.0)
        return self._result(stopping)

    def _over(self) -> bool:
        if self._broken or self._failures:
            return True
        waiting = [
            name
            for name, process in self._processes.items()
            if name not in self._exits and process.role not in _DISPENSABLE
        ]
        if not waiting:
            return True
        trainers_left = any(self._processes[name].role == "trainer" for name in waiting)
        if len(self._stop.signals) > 1:
            return True
        if self._stop.signals and (not trainers_left or time.monotonic() - self._stop_time() > GRACE_S):
            return True
        if trainers_left:
            return False
        ended = max(
            event.at for name, event in self._exits.items() if self._processes[name].role == "trainer"
        )
        return time.time() - ended > GRACE_S

    def _stop_time(self) -> float:
        if self._stopped_at is None:
            self._stopped_at = time.monotonic()
        return self._stopped_at

    def _forward(self, machines: Sequence[Machine], done: int) -> int:
        requests = self._stop.signals[done:]
        for number in requests[:1]:
            self._stop_time()
            for machine in machines:
                machine.signal("trainer", number)
        return done + len(requests)

    def _take_event(self, timeout_s: float) -> bool:
        try:
            event = self._events.get(timeout=timeout_s) if timeout_s > 0 else self._events.get_nowait()
        except queue.Empty:
            return False
        if isinstance(event, Line):
            if event.stream == "stderr" and event.process in self._errors:
                tail = self._errors[event.process]
                tail.append(event.text)
                del tail[:-_TAIL_LINES]
            if self._on_line is not None:
                self._on_line(event)
        elif isinstance(event, Broken):
            self._broken = self._broken or f"host{event.host}: {event.reason}"
        else:
            self._exits[event.process] = event
            if event.code == 0 or self._stop.signals:
                return True
            if self._processes[event.process].role in _DISPENSABLE:
                self._warn(event)
            else:
                self._failures.append((event.failed_at or event.at, event.process))
        return True

    def _warn(self, event: Exited) -> None:
        if self._stopping or self._on_line is None:
            return
        how = f"by {signal.Signals(-event.code).name}" if event.code < 0 else f"with exit code {event.code}"
        role = self._processes[event.process].role
        text = f"rudder: this {role} ended {how}; {_DISPENSABLE[role]}"
        self._on_line(Line(event.process, "stderr", text))

    def _drain_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._take_event(max(0.0, until - time.monotonic())):
            pass

    def _result(self, stopping: float) -> JobResult:
        # What ends after the launcher began to stop the job was stopped by it, unless its own report is
        # from before.
        failures = sorted(failure for failure in self._failures if failure[0] <= stopping)
        first = failures[0][1] if failures else None
        statuses = []
        for name, process in self._processes.items():
            event = self._exits.get(name)
            stopped = event is None or (event.code < 0 and event.at > stopping)
            trace = event.traceback if event else ""
            code = event.code if event else None
            statuses.append(
                ProcessStatus(name, process.role, process.host, process.rank, code, trace, stopped)
            )
        failed = next((status for status in statuses if status.name == first), None)
        code, reason = 0, ""
        if failed is not None:
            code, reason = self._explain(failed)
        elif self._broken:
            code, reason = 1, self._broken
        elif self._stop.signals:
            number = self._stop.signals[0]
            code, reason = 128 + number, f"stopped by {signal.Signals(number).name}"
        return JobResult(code, statuses, failed, reason, time.monotonic() - self._begin)

    def _explain(self, failed: ProcessStatus) -> tuple[int, str]:
        assert failed.code is not None
        if failed.code < 0:
            code = 128 - failed.code
            head = f"{failed.name} (rank {failed.rank}) was killed by {signal.Signals(-failed.code).name}"
        else:
            code = failed.code
            head = f"{failed.name} (rank {failed.rank}) failed with exit code {failed.code}"
        detail = failed.traceback.rstrip() or "\n".join(self._errors[failed.name])
        return code, f"{head}\n{detail}".rstrip()


_TAIL_LINES = 40  # of a process that died without a report of its own, e.g. in C++
