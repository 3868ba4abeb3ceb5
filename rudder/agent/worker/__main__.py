"""The worker: `python -m rudder.agent.worker SETTINGS FD PARENT`, started by a keeper and by nobody else.

It says "ready" with its load report, "refused" with the reason, or "restarting" where another try may go
better, over the socket FD; then it answers asks one at a time, until the socket ends. It dies with its
keeper.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time

from rudder.agent.worker.decider import Decider, UnavailableError, usage
from rudder.agent.worker.protocol import LONGEST_LINE, Answer, Ask, Failed, Message, State, from_line, to_line
from rudder.agent.worker.settings import WorkerSettings
from rudder.errors import AgentError, RudderError
from rudder.launch.child import die_with_parent


def open_decider(settings: WorkerSettings) -> Decider:
    """The model that the settings name, probed. Raises FormatError, AgentError, ConfigError."""
    if settings.is_address:
        from rudder.agent.worker.endpoint import EndpointDecider

        return EndpointDecider(settings.source, settings.load_seconds)
    if not os.path.isfile(settings.source):
        raise AgentError(f"there is no model file {settings.source}")
    try:
        from rudder.agent.worker.local import LlamaDecider
    except (ImportError, OSError, RuntimeError) as error:  # the last two: its library does not load here
        raise AgentError(
            f"llama-cpp-python cannot be used ({error}): pip install 'rudder-gnn[agent]'"
        ) from error
    return LlamaDecider(settings.source, settings.room.context, settings.room.threads)


def reply(decider: Decider, ask: Ask) -> Message:
    """The answer to one ask, or why there is none. Never raises an Exception."""
    begin = time.process_time()
    cost: dict[str, float] = {}
    try:
        plan, cost = decider.decide(ask)
        message: Message = Answer(ask.id, str(plan))
    except RudderError as error:
        message = Failed(ask.id, str(error))
    except Exception as error:  # the next ask may go well
        message = Failed(ask.id, f"{type(error).__name__}: {error}")
    cost = {**cost, "cpu_ms": round(1000 * (time.process_time() - begin), 3), **usage()}
    return type(message)(**{**vars(message), "cost": cost})


def main() -> None:
    """Entry point."""
    settings, end = WorkerSettings.from_json(sys.argv[1]), socket.socket(fileno=int(sys.argv[2]))
    die_with_parent(int(sys.argv[3]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(settings.nice)
    # Training is worth more: where memory runs out, this process goes first.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")
    end.setblocking(True)
    try:
        decider = open_decider(settings)
    except RudderError as error:
        state = "restarting" if isinstance(error, UnavailableError) else "refused"
        end.sendall(to_line(State(state, str(error))))
        return
    end.sendall(to_line(State("ready", report={**decider.report, **usage()})))
    with end.makefile("rb") as asks:
        while line := asks.readline(LONGEST_LINE):
            ask = from_line(line)
            if isinstance(ask, Ask):
                end.sendall(to_line(reply(decider, ask)))


if __name__ == "__main__":
    main()
