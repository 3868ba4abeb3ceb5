"""One worker under watch: started, given one ask at a time, ended when it hangs, started anew after a pause.

starting -> ready <-> asked          (ready says its load report)
any      -> restarting -> starting   (it died, hung, or talked nonsense; the pause doubles each time)
any      -> refused                  (it refused its model, or failed too often; nothing follows)

A worker that finds its model server gone says "restarting" itself, which is tried as long as the job runs.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
from dataclasses import dataclass

from rudder.agent.prompt import plan_of
from rudder.agent.worker.channel import Channel
from rudder.agent.worker.protocol import Answer, Ask, Failed, State
from rudder.agent.worker.settings import WorkerSettings
from rudder.agent.worker.start import start_worker
from rudder.errors import ConfigError
from rudder.plan import Plan

#: Seconds until a worker that ended is started anew; twice as many after each failure in a row.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
#: Failures in a row, without an answer between them, after which nothing is tried any more.
MOST_FAILURES = 4
#: A worker is ended at twice the deadline of what it was asked, but after so many seconds at the earliest: a
#: process that gets no core for a moment does not hang.
SHORTEST_PATIENCE_S = 0.5


@dataclass(frozen=True)
class Asked:
    """What the worker is at."""

    trainer: int
    ask: Ask
    #: When it is taken for hung, by `time.monotonic`.
    kill_at: float


class Watched:
    """The worker of one keeper. Used by one thread; times are `time.monotonic`."""

    def __init__(self, settings: WorkerSettings) -> None:
        """Nothing is started before the first `tick`."""
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self._at: float | None = float("-inf")  # when to start it, or to take it for hung while it loads
        self.channel: Channel | None = None
        self.asked: Asked | None = None
        self.state = State("starting")

    @property
    def free(self) -> bool:
        """Can it be asked?"""
        return self.state.state == "ready" and self.asked is None

    @property
    def next_tick(self) -> float | None:
        """When `tick` has something to do, at the latest."""
        return self.asked.kill_at if self.asked is not None else self._at

    def ask(self, trainer: int, ask: Ask, now: float) -> None:
        """Ask it. REQUIRES: free."""
        assert self.channel is not None
        patience = max(2 * ask.deadline_ms / 1000, SHORTEST_PATIENCE_S)
        self.asked = Asked(trainer, ask, now + patience)
        with contextlib.suppress(ConnectionError):  # reading will say so
            self.channel.send(ask)

    def receive(self, now: float) -> tuple[int, Answer | Failed] | None:
        """What it says: the trainer whose ask is done with, and how. REQUIRES: there is a channel."""
        assert self.channel is not None
        try:
            said = self.channel.receive()
        except ConnectionError:
            return self._fail(self._how_it_ended(), now)
        done: tuple[int, Answer | Failed] | None = None
        for message in said:
            if isinstance(message, State) and self.asked is None and message.state != "starting":
                if message.state == "refused":
                    self._end("refused", message.reason)
                    return done
                if message.state == "restarting":
                    self._restart(message.reason, now)
                    return done
                self.state, self._at = message, None
            elif isinstance(message, (Answer, Failed)) and self._fits(message):
                assert self.asked is not None
                done = self.asked.trainer, message
                self.asked = None
                if isinstance(message, Answer):
                    self._failures, self._pause_s = 0, FIRST_PAUSE_S
            else:
                failed = self._fail("it said what it was not asked for", now)
                return done or failed  # an answer that came before the nonsense is one
        return done

    def tick(self, now: float) -> tuple[int, Failed] | None:
        """Start it when it is time; end it when it hangs, which fails the ask that it was at."""
        if self.next_tick is None or now < self.next_tick:
            return None
        if self.asked is not None:
            return self._fail(f"it did not answer within {self.asked.ask.deadline_ms:.0f} ms, twice", now)
        if self._process is not None:
            return self._fail(f"it was not ready within {self._settings.load_seconds:g} s", now)
        try:
            self._process, end = start_worker(self._settings)
        except OSError as error:
            return self._fail(f"it cannot be started: {error}", now)
        self.channel = Channel(end)
        self.state = State("starting")
        self._at = now + self._settings.load_seconds
        return None

    def close(self) -> None:
        """End it."""
        self._kill()

    def _fits(self, message: Answer | Failed) -> bool:
        """Is this about the ask, and a plan that may be answered?"""
        if self.asked is None or message.id != self.asked.ask.id:
            return False
        if isinstance(message, Failed):
            return True
        ask = self.asked.ask
        with contextlib.suppress(ConfigError):
            return ask.space.allows(plan_of(ask.evidence), Plan.parse(message.plan))
        return False

    def _fail(self, reason: str, now: float) -> tuple[int, Failed] | None:
        """End the process; start another after a pause, unless that was tried too often."""
        asked, self.asked = self.asked, None
        self._failures += 1
        if self._failures >= MOST_FAILURES:
            self._end("refused", f"it failed {self._failures} times in a row, at last: {reason}")
        else:
            self._restart(reason, now)
        return (asked.trainer, Failed(asked.ask.id, f"the agent's worker: {reason}")) if asked else None

    def _restart(self, reason: str, now: float) -> None:
        self._end("restarting", reason)
        self._at = now + self._pause_s
        self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s)

    def _end(self, state: str, reason: str) -> None:
        self._kill()
        self.state, self._at = State(state, reason), None

    def _kill(self) -> None:
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()  # also one that was stopped
            self._process.wait()
            self._process = None

    def _how_it_ended(self) -> str:
        assert self._process is not None
        try:
            code = self._process.wait(1.0)  # it closed its socket: its end is near
        except subprocess.TimeoutExpired:
            return "it closed its connection"
        return (
            f"it was killed by {signal.Signals(-code).name}"
            if code < 0
            else f"it ended with exit code {code}"
        )
