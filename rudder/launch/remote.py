"""The launcher's end of the conversation with an agent (agent.py) on another machine, or in another
namespace."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import threading
from collections.abc import Sequence

from rudder.errors import LaunchError
from rudder.launch.events import Broken, Emit, from_json
from rudder.launch.plan import Process, process_to_json

# How long an agent may take to clean up after it was told to stop, before its connection is cut (which
# stops it, too).
_FAREWELL_S = 30.0
_ERROR_BYTES = 2000  # of what ssh or srun had to say, kept for the report


class Agent:
    """One started agent. Satisfies `job.Machine`; thread-safe."""

    def __init__(self, host: int, command: Sequence[str], emit: Emit, *, mount_shm: bool = False) -> None:
        """Start `command`, which must run an agent on its standard streams. Raises LaunchError where it
        cannot be started."""
        self._host = host
        self._emit = emit
        self._mount_shm = mount_shm
        self._lock = threading.Lock()
        self._stopping = False
        try:
            self._popen = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # Ctrl-C must not cut the connection: the launcher stops the job in order.
                start_new_session=True,
            )
        except OSError as error:
            raise LaunchError(f"cannot run {command[0]}: {error.strerror}") from error
        self._errors = b""
        # The reader of events waits for the other one, so it starts second.
        self._error_thread = threading.Thread(target=self._read_errors, daemon=True)
        self._error_thread.start()
        self._event_thread = threading.Thread(target=self._read_events, daemon=True)
        self._event_thread.start()

    @property
    def pid(self) -> int:
        """Of the local program that leads to the agent."""
        return self._popen.pid

    def begin(self, processes: Sequence[Process], ip_config: str, ports: Sequence[tuple[str, int]]) -> None:
        """Hand over the machine's processes, which start at once; `ports` must be free there."""
        self._send(
            {
                "host": self._host,
                "processes": [process_to_json(process) for process in processes],
                "ip_config": ip_config,
                "ports": [list(pair) for pair in ports],
                "cwd": os.getcwd(),
                "mount_shm": self._mount_shm,
            }
        )

    def signal(self, role: str, number: int) -> None:
        """Send a signal to the machine's live processes of a role."""
        self._send({"signal": number, "role": role})

    def stop(self) -> None:
        """Tell the agent to kill what still runs, to clean up and to end."""
        with self._lock:
            self._stopping = True
        self._send({"stop": True})
        with contextlib.suppress(OSError):
            assert self._popen.stdin is not None
            self._popen.stdin.close()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the agent has ended and all its events have been passed on; False on timeout."""
        try:
            self._popen.wait(_FAREWELL_S if timeout_s is None else timeout_s)
        except subprocess.TimeoutExpired:
            if timeout_s is not None:
                return False
            self._popen.kill()
            self._popen.wait()
        self._event_thread.join()
        self._error_thread.join()
        return True

    def close(self) -> None:
        """Stop and wait, whatever state it is in."""
        self.stop()
        self.wait()

    def _send(self, message: dict[str, object]) -> None:
        with self._lock, contextlib.suppress(OSError, ValueError):  # it has ended: the reader tells
            assert self._popen.stdin is not None
            self._popen.stdin.write(json.dumps(message).encode() + b"\n")
            self._popen.stdin.flush()

    def _read_events(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            try:
                self._emit(from_json(json.loads(line)))
            except (ValueError, KeyError, TypeError, AttributeError):
                # A banner, or a login script that prints: worth showing when the connection breaks.
                self._errors = (self._errors + line)[-_ERROR_BYTES:]
        code = self._popen.wait()
        with self._lock:
            lost = not self._stopping
        if lost:
            self._error_thread.join()
            said = self._errors.decode("utf-8", "replace").strip()
            self._emit(
                Broken(self._host, f"lost its agent (exit code {code})" + (f": {said}" if said else ""))
            )

    def _read_errors(self) -> None:
        assert self._popen.stderr is not None
        for line in self._popen.stderr:
            self._errors = (self._errors + line)[-_ERROR_BYTES:]


def ssh_command(ssh: Sequence[str], host: str, python: str) -> list[str]:
    """The command that runs an agent on `host`."""
    # BatchMode: a password prompt would hang behind the log. The working directory and PYTHONPATH are as
    # here.
    here = shlex.quote(os.getcwd())
    remote = f"cd {here} && {shell_environment()}exec {shlex.quote(python)} -m rudder.launch.agent"
    return [*ssh, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new", host, remote]


def shell_environment() -> str:
    """Assignments, for a shell command line, of the variables that the other side needs from here."""
    passed = {key: os.environ[key] for key in ("PYTHONPATH", "OMP_NUM_THREADS") if key in os.environ}
    return "".join(f"{key}={shlex.quote(value)} " for key, value in passed.items())
