"""Leaves nothing behind: ends every process of a job and removes its shared memory, also after the launcher
was killed.

Standard library only, and runnable as a file (`python -I cleanup.py JOB`): then it is the job's
*guardian*, a process in a session of its own that holds the read end of a pipe from the launcher. The word
"done" means that the launcher cleaned up itself; end of file without it means that the launcher is gone,
and the guardian does the work. Should both be killed at once, the job's processes still die with their
parent (see child.py), and the next job on the machine removes the rest.

A process belongs to a job when its environment says RUDDER_JOB=<job>, so also samplers, data-loader workers
and whatever else the script started. A segment belongs to it when its name starts with rudder.<job>. (see
integrations/dgl_hosts.py).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHM = Path("/dev/shm")
PREFIX = "rudder."
_FOLDER = "rudder-launch-"
# multiprocessing's resource tracker unlinks a killed process's named semaphores as soon as its last user is
# gone; killing it first would leak them. It needs milliseconds; after this long it is taken for stuck.
TRACKER_PATIENCE_S = 5.0


def new_job_id() -> str:
    """An id that names this process: pid namespace, pid and start time, so that others can see whether it
    still lives."""
    return f"{_pid_namespace()}-{os.getpid()}-{_start_time(os.getpid())}-{os.urandom(3).hex()}"


def folder(job: str) -> Path:
    """Where the job keeps its address file and its processes their failure reports."""
    return Path(tempfile.gettempdir(), f"{_FOLDER}{job}")


def start_guardian(job: str) -> subprocess.Popen[bytes]:
    """A guardian of the job. Write "done" to its stdin after a `sweep`; its end without it means the sweep is
    the guardian's."""
    return subprocess.Popen(
        [sys.executable, "-I", __file__, job],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def processes(job: str) -> list[int]:
    """Pids of the job's live processes on this machine that this user may see."""
    mark = f"RUDDER_JOB={job}".encode()
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            environ = Path("/proc", entry, "environ").read_bytes()
        except OSError:  # gone, or another user's
            continue
        if mark in environ.split(b"\0"):  # a zombie's environment reads as empty
            found.append(int(entry))
    return found


def sweep(job: str) -> None:
    """Kill the job's processes, wait until they are gone, remove what they left. REQUIRES: none starts."""
    deadline = time.monotonic() + TRACKER_PATIENCE_S
    while True:
        alive = processes(job)
        if not alive:
            break
        patient = time.monotonic() < deadline
        for pid in alive:
            if patient and _is_tracker(pid):
                continue
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline + TRACKER_PATIENCE_S:
            break  # in an uninterruptible system call: nothing more can be done
        time.sleep(0.02)
    shutil.rmtree(folder(job), ignore_errors=True)
    for path in SHM.glob(f"{PREFIX}{job}.*"):
        with contextlib.suppress(OSError):
            path.unlink()


def sweep_stale() -> None:
    """Remove what jobs left whose launcher and guardian were both killed."""
    found = {path: path.name[len(PREFIX) :].split(".", 1)[0] for path in SHM.glob(f"{PREFIX}*.h*")}
    found.update({path: path.name[len(_FOLDER) :] for path in folder("").parent.glob(f"{_FOLDER}*")})
    for path, job in found.items():
        fields = job.split("-")
        # Another pid namespace (a container with the same /dev/shm) cannot be judged from here.
        if len(fields) != 4 or fields[0] != _pid_namespace() or not fields[1].isdigit():
            continue
        if _start_time(int(fields[1])) != fields[2] and not processes(job):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _pid_namespace() -> str:
    return f"{os.stat('/proc/self/ns/pid').st_ino:x}"


def _start_time(pid: int) -> str:
    """Start of a process in clock ticks since boot, in hexadecimal; "" when there is none."""
    try:
        stat = Path("/proc", str(pid), "stat").read_text()
    except OSError:
        return ""
    return f"{int(stat.rpartition(')')[2].split()[19]):x}"


def _is_tracker(pid: int) -> bool:
    try:
        return b"multiprocessing.resource_tracker" in Path("/proc", str(pid), "cmdline").read_bytes()
    except OSError:
        return False


def main() -> None:
    """Be the guardian of the job named on the command line."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    told = sys.stdin.buffer.read()
    if told != b"done":
        sweep(sys.argv[1])


if __name__ == "__main__":
    main()
