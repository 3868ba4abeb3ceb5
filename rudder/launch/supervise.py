"""Starts the processes of a job that belong on this machine, reads what they write, and ends them all.

One thread does everything: it starts the processes (the kernel ties their lives to the thread that started
them, see child.py), reads their pipes and reaps them. Other threads only leave requests for it.

    idle -> started -> (every process ended, or stop() was called) -> swept: no process, no segment, no
    temporary file left
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rudder.errors import LaunchError
from rudder.launch import cleanup, ports
from rudder.launch.events import Broken, Emit, Exited, Line
from rudder.launch.plan import FOLDER, IP_CONFIG, Process

_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
_TICK_S = 0.05  # how often exits and requests are looked at while no process writes
_READ_BYTES = 65536


@dataclass
class _Running:
    plan: Process
    popen: subprocess.Popen[bytes]
    report: Path
    pipes: dict[str, bytes]  # per stream: the beginning of a line whose end has not come yet


class Supervisor:
    """The processes of one job on one machine. `start` once, then `wait`; `signal` and `stop` from any
    thread."""

    def __init__(self, processes: Sequence[Process], ip_config: str, emit: Emit) -> None:
        """ip_config: text of the address file. emit: called on the supervisor's thread."""
        # Of this process, not of the whole job's launcher: leftovers are judged by whether it lives, on
        # this machine.
        self._job = cleanup.new_job_id()
        self._plans = list(processes)
        self._ip_config = ip_config
        self._emit = emit
        self._requests: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._running: dict[str, _Running] = {}
        self._selector = selectors.DefaultSelector()
        self._guardian: subprocess.Popen[bytes]
        self._thread = threading.Thread(target=self._run, name="rudder-supervisor", daemon=True)

    def start(self, needed_ports: Iterable[tuple[str, int]] = ()) -> None:
        """Check the ports, then start everything. Raises LaunchError, e.g. where a port is taken."""
        ports.check_ports(needed_ports)
        cleanup.sweep_stale()
        cleanup.folder(self._job).mkdir(mode=0o700)
        try:
            self._guardian = cleanup.start_guardian(self._job)
        except OSError as error:
            raise LaunchError(f"cannot start a process: {error}") from error
        self._thread.start()

    def signal(self, role: str, number: int) -> None:
        """Send a signal to every live process of a role."""
        self._requests.put((role, number))

    def stop(self) -> None:
        """Kill whatever still runs. Idempotent; `wait` tells when it is done."""
        self._stopping.set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until every process has ended and everything is cleaned up; False on timeout."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._start_all(cleanup.folder(self._job))
            while self._running:
                self._serve_requests()
                self._read(_TICK_S)
                self._reap()
                if self._stopping.is_set():
                    break
        except Exception as error:
            host = self._plans[0].host if self._plans else 0
            self._emit(Broken(host, f"{type(error).__name__}: {error}"))
        finally:
            cleanup.sweep(self._job)
            self._reap_killed()
            self._selector.close()
            # Only now: until here the guardian would have finished the work had this process been killed.
            with contextlib.suppress(BrokenPipeError):
                self._guardian.communicate(b"done")

    def _start_all(self, folder: Path) -> None:
        address_file = folder / "ip_config.txt"
        address_file.write_text(self._ip_config, encoding="utf-8")
        for number, plan in enumerate(self._plans):
            if self._stopping.is_set():
                return
            report = folder / f"failure{number}.json"
            own = {
                "RUDDER_JOB": self._job,
                "RUDDER_PARENT": str(os.getpid()),
                "RUDDER_FAILURE_FILE": str(report),
            }
            env = {**os.environ, **plan.env, **own}
            env = {key: _fill(value, folder, address_file) for key, value in env.items()}
            # The package must be importable wherever the script is; last, so that it never hides another.
            env["PYTHONPATH"] = os.pathsep.join(filter(None, [env.get("PYTHONPATH"), _PACKAGE_ROOT]))
            argv = [_fill(arg, folder, address_file) for arg in plan.argv]
            readers, writers = _pipes("stdout", "stderr")
            popen = subprocess.Popen(
                [sys.executable, "-m", "rudder.launch.child", *argv],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=writers["stdout"],
                stderr=writers["stderr"],
                # Ctrl-C in a terminal reaches the launcher only, which decides who gets it.
                start_new_session=True,
            )
            for fd in writers.values():
                os.close(fd)
            running = _Running(plan, popen, report, {"stdout": b"", "stderr": b""})
            self._running[plan.name] = running
            for stream, fd in readers.items():
                self._selector.register(fd, selectors.EVENT_READ, (running, stream))

    def _serve_requests(self) -> None:
        while True:
            try:
                role, number = self._requests.get_nowait()
            except queue.Empty:
                return
            for running in self._running.values():
                if running.plan.role == role:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(running.popen.pid, number)

    def _read(self, timeout_s: float) -> None:
        if not self._selector.get_map():  # every pipe was closed by its writer, who still runs
            self._stopping.wait(timeout_s)
            return
        for key, _ in self._selector.select(timeout_s):
            self._read_pipe(key.fd, *key.data)

    def _read_pipe(self, fd: int, running: _Running, stream: str) -> bool:
        """Pass on the lines that have come; False where there is nothing to read for now, or never again."""
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._close_pipe(fd, running, stream)
            return False
        # Progress bars end their lines with a carriage return only.
        *lines, rest = (running.pipes[stream] + data).replace(b"\r", b"\n").split(b"\n")
        running.pipes[stream] = rest
        for line in lines:
            self._emit_line(running, stream, line)
        return True

    def _close_pipe(self, fd: int, running: _Running, stream: str) -> None:
        self._selector.unregister(fd)
        os.close(fd)
        self._emit_line(running, stream, running.pipes[stream])

    def _emit_line(self, running: _Running, stream: str, line: bytes) -> None:
        if line:
            self._emit(Line(running.plan.name, stream, line.decode("utf-8", "replace")))

    def _reap(self) -> None:
        for running in list(self._running.values()):
            if running.popen.poll() is not None:
                self._finish(running)

    def _reap_killed(self) -> None:
        for running in list(self._running.values()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.popen.wait(cleanup.TRACKER_PATIENCE_S)
                self._finish(running)

    def _finish(self, running: _Running) -> None:
        """Pass on what the process wrote before it ended, then its end."""
        for key in [key for key in self._selector.get_map().values() if key.data[0] is running]:
            # A child of its own may hold the pipe open: take what is there, do not wait for the end of file.
            while self._read_pipe(key.fd, *key.data):
                pass
            if key.fd in self._selector.get_map():
                self._close_pipe(key.fd, *key.data)
        del self._running[running.plan.name]
        failed_at, trace = _read_report(running.report)
        self._emit(Exited(running.plan.name, running.popen.returncode, time.time(), failed_at, trace))


def _fill(text: str, folder: Path, address_file: Path) -> str:
    return text.replace(IP_CONFIG, str(address_file)).replace(FOLDER, str(folder))


def _pipes(*names: str) -> tuple[dict[str, int], dict[str, int]]:
    """Pipes by name: (ends to read without blocking, ends to write)."""
    pairs = {name: os.pipe() for name in names}
    for reader, _ in pairs.values():
        os.set_blocking(reader, False)
    return {name: pair[0] for name, pair in pairs.items()}, {name: pair[1] for name, pair in pairs.items()}


def _read_report(path: Path) -> tuple[float | None, str]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return None, ""
    return float(data["failed_at"]), str(data["traceback"])
