"""The keeper, which owns the worker: `python -m rudder.agent.worker.keeper SETTINGS [FD PARENT]`.

One thread, one loop: it hears trainers, gives the worker one ask at a time, passes answers back, and lets
`Watched` end a worker that hangs and start another. It ends, and the worker with it, when the process that
started it ends: the one trainer at the other end of FD, or (without FD) the launcher's supervisor; then it
listens on the unix socket that the settings name, for all trainers of the host.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import selectors
import signal
import socket
import sys
import time
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from rudder.agent.worker.channel import Channel
from rudder.agent.worker.decider import usage
from rudder.agent.worker.protocol import LATE, VERSION, Answer, Ask, Failed, Hello, Message, State
from rudder.agent.worker.settings import WorkerSettings
from rudder.agent.worker.turns import Turns, with_time_left
from rudder.agent.worker.watched import Watched

_log = logging.getLogger("rudder")
# Trainers of a host that may wait to be accepted.
_BACKLOG = 64


class Keeper:
    """The loop. Used by one thread."""

    def __init__(self, settings: WorkerSettings) -> None:
        """Nothing runs before `run`."""
        self._watched = Watched(settings)
        self._turns = Turns()
        self._trainers: dict[int, Channel] = {}
        self._numbers = count()
        self._selector = selectors.DefaultSelector()
        self._shown = State("starting")
        self._worker_channel: Channel | None = None
        self._alone: int | None = None
        # Of the ask that the worker is at: how long it waited for its turn.
        self._queue_ms = 0.0
        # CPU seconds of keeper and workers that no trainer is billed for any more.
        self._billed = 0.0
        self._over = False

    def listen(self, address: str) -> None:
        """Take trainers at this unix socket. Raises OSError."""
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        Path(address).unlink(missing_ok=True)
        door.bind(address)
        os.chmod(address, 0o600)
        door.listen(_BACKLOG)
        door.setblocking(False)
        self._selector.register(door, selectors.EVENT_READ, self._accept)

    def serve(self, end: socket.socket, parent: int) -> None:
        """Serve one trainer, the process ``parent``, and end with it."""
        self._alone = self._take(end)
        # Children that the trainer forked hold its end of the socket open, so its end alone would not tell.
        with contextlib.suppress(OSError, AttributeError):  # a kernel before 5.3, or gone: the socket tells
            self._selector.register(os.pidfd_open(parent), selectors.EVENT_READ, self._parent_ended)

    def run(self) -> None:
        """Until what it serves has ended."""
        try:
            while not self._over:
                self._step()
        finally:
            self._watched.close()

    def _step(self) -> None:
        now = time.monotonic()
        self._deliver(self._watched.tick(now))
        for trainer, ask in self._turns.expired(now):
            self._send(trainer, Failed(ask.id, LATE))
        if self._watched.free and (turn := self._turns.take()) is not None:
            trainer, ask, expires = turn
            self._queue_ms = max(0.0, ask.deadline_ms - 1000 * (expires - now))
            self._watched.ask(trainer, with_time_left(ask, expires, now), now)
        self._show_state()
        self._watch_worker()
        times = [at for at in (self._watched.next_tick, self._turns.next_expiry()) if at is not None]
        wait = max(0.0, min(times) - time.monotonic()) if times else None
        for key, events in self._selector.select(wait):
            key.data(key.fileobj, events)

    def _accept(self, door: Any, events: int) -> None:
        with contextlib.suppress(OSError):  # gone again
            self._take(door.accept()[0])

    def _take(self, end: socket.socket) -> int:
        trainer, channel = next(self._numbers), Channel(end)
        self._trainers[trainer] = channel
        self._selector.register(
            channel, selectors.EVENT_READ, lambda _, events: self._hear(trainer, channel, events)
        )
        for message in (Hello(VERSION), self._shown):
            self._send(trainer, message)
        return trainer

    def _hear(self, trainer: int, channel: Channel, events: int) -> None:
        if trainer not in self._trainers:  # let go earlier in this round
            return
        try:
            if events & selectors.EVENT_WRITE:
                channel.flush()
            said = channel.receive()
        except ConnectionError:
            self._let_go(trainer)
            return
        for message in said:
            if isinstance(message, Ask):
                if self._watched.state.state == "refused":
                    self._send(trainer, Failed(message.id, self._watched.state.reason))
                else:
                    self._turns.put(trainer, message, time.monotonic())
            elif not isinstance(message, Hello) or message.version != VERSION:
                _log.warning("rudder's agent: a trainer is let go that said %s", message)
                self._let_go(trainer)
                return
        self._listen_to(trainer)

    def _hear_worker(self, _: Any, events: int) -> None:
        if self._watched.channel is not None:
            self._deliver(self._watched.receive(time.monotonic()))
            self._watch_worker()  # at once: the number of a closed socket is taken by the next one

    def _parent_ended(self, _: Any, events: int) -> None:
        self._over = True

    def _deliver(self, done: tuple[int, Answer | Failed] | None) -> None:
        if done is None:
            return
        trainer, message = done
        if message.cost:
            cost = {**message.cost, "queue_ms": round(self._queue_ms, 3)}
            cost["cpu_seconds"] = total = _cpu_seconds(cost.get("cpu_seconds", 0.0))
            cost["rss_bytes"] = cost.get("rss_bytes", 0) + usage()["rss_bytes"]
            # All that was used since the last bill, the keeper's share included. A worker that was started
            # anew counts from 0, which is no reason to pay anybody back.
            cost["cpu_ms"] = round(1000 * max(0.0, total - self._billed), 3)
            self._billed = max(self._billed, total)
            message = replace(message, cost=cost)
        self._send(trainer, message)

    def _send(self, trainer: int, message: Message) -> None:
        """Say something to a trainer that may be gone, or never read."""
        channel = self._trainers.get(trainer)
        if channel is None:
            return
        try:
            taken = channel.send(message)
        except ConnectionError:
            taken = False
        if taken:
            self._listen_to(trainer)
        else:
            self._let_go(trainer)

    def _listen_to(self, trainer: int) -> None:
        channel = self._trainers.get(trainer)
        if channel is not None:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if channel.waiting else 0)
            self._selector.modify(channel, events, self._selector.get_key(channel).data)

    def _let_go(self, trainer: int) -> None:
        channel = self._trainers.pop(trainer, None)
        self._turns.forget(trainer)
        if channel is not None:
            self._selector.unregister(channel)
            channel.close()
        self._over = self._over or trainer == self._alone

    def _show_state(self) -> None:
        """Tell the trainers when it has changed."""
        if self._watched.state == self._shown:
            return
        self._shown = self._watched.state
        if self._shown.state == "ready":
            # Loading is for all, and nobody's decision.
            self._billed = _cpu_seconds(self._shown.report.get("cpu_seconds", 0.0))
        if self._shown.state == "refused":
            for trainer, ask, _ in iter(self._turns.take, None):
                self._send(trainer, Failed(ask.id, self._shown.reason))
        for trainer in list(self._trainers):
            self._send(trainer, self._shown)

    def _watch_worker(self) -> None:
        if self._watched.channel is self._worker_channel:
            return
        if self._worker_channel is not None:
            self._selector.unregister(self._worker_channel)
        self._worker_channel = self._watched.channel
        if self._worker_channel is not None:
            self._selector.register(self._worker_channel, selectors.EVENT_READ, self._hear_worker)


def _cpu_seconds(worker: float) -> float:
    """Of keeper, worker and the workers before it, since the keeper's start."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return worker + usage()["cpu_seconds"] + ended.ru_utime + ended.ru_stime


def main() -> None:
    """Entry point."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings = WorkerSettings.from_json(sys.argv[1])
    keeper = Keeper(settings)
    if len(sys.argv) > 2:
        keeper.serve(socket.socket(fileno=int(sys.argv[2])), int(sys.argv[3]))
    else:
        keeper.listen(settings.address)
    keeper.run()


if __name__ == "__main__":
    main()
