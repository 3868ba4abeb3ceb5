"""A machine's part of a job, driven over its standard streams: `python -m rudder.launch.agent`, started by
ssh, srun or unshare.

In, one JSON object per line: first {"processes": [...], "ip_config": text, "ports": [[address, port], ...],
"cwd": path, "mount_shm": bool}, then {"signal": number, "role": role} or {"stop": true}. Out: events
(events.py). End of input, as when the connection or the launcher is lost, counts as stop.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from typing import Any

from rudder.errors import LaunchError, RudderError
from rudder.launch.events import Broken, Event, to_json
from rudder.launch.plan import process_from_json
from rudder.launch.supervise import Supervisor


class _Outlet:
    """Writes events as JSON lines to the real standard output."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stream = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
        # Whatever else prints must not break the protocol.
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def emit(self, event: Event) -> None:
        with self._lock, contextlib.suppress(BrokenPipeError):  # the launcher is gone: stdin will say so
            self._stream.write(json.dumps(to_json(event)) + "\n")
            self._stream.flush()


def _mount_own_shared_memory() -> None:
    """Give this mount namespace a /dev/shm of its own. REQUIRES: started by `unshare --mount`."""
    done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/dev/shm"], capture_output=True, text=True)
    if done.returncode != 0:
        raise LaunchError(f"cannot mount a /dev/shm of its own: {done.stderr.strip()}")


def _serve(outlet: _Outlet, spec: dict[str, Any]) -> None:
    os.chdir(spec["cwd"])
    if spec["mount_shm"]:
        _mount_own_shared_memory()
    processes = [process_from_json(item) for item in spec["processes"]]
    supervisor = Supervisor(processes, spec["ip_config"], outlet.emit)
    supervisor.start([(str(address), int(port)) for address, port in spec["ports"]])
    for line in sys.stdin:
        request = json.loads(line)
        if "signal" in request:
            supervisor.signal(request["role"], request["signal"])
        else:
            break
    supervisor.stop()
    supervisor.wait()


def main() -> None:
    """Entry point: one job, then the end."""
    outlet = _Outlet()
    first = sys.stdin.readline()
    if not first:
        return
    spec = json.loads(first)
    try:
        _serve(outlet, spec)
    except (RudderError, OSError) as error:
        outlet.emit(Broken(spec["host"], str(error)))
        sys.exit(1)


if __name__ == "__main__":
    main()
