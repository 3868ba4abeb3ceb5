"""Starts the two processes: a keeper from a trainer, a worker from a keeper.

Popen only, never fork: a trainer has threads and memory that a forked child would take along.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from rudder.agent.worker.settings import WorkerSettings

_PACKAGE_ROOT = str(Path(__file__).resolve().parents[3])


def start_worker(settings: WorkerSettings) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """A worker, and this side of its socket. Raises OSError where no process can be started."""
    return _start("rudder.agent.worker", settings, {"CUDA_VISIBLE_DEVICES": ""})  # GPUs are the trainers'


def start_keeper(settings: WorkerSettings) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """A keeper for this process alone, and this side of its socket. Raises OSError."""
    return _start("rudder.agent.worker.keeper", settings, {})


def _start(
    module: str, settings: WorkerSettings, more: dict[str, str]
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    own, other = socket.socketpair()
    env = {
        **os.environ,
        # Behind what is there, so that it hides nothing; and no module of the user's folder gets in.
        "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), _PACKAGE_ROOT])),
        "PYTHONSAFEPATH": "1",
        # Numerical libraries start a thread per core otherwise, llama.cpp a debugger when it aborts.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "GGML_NO_BACKTRACE": "1",
        **more,
    }
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", module, settings.to_json(), str(other.fileno()), str(os.getpid())],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[other.fileno()],
            start_new_session=True,  # Ctrl-C in a terminal is for the trainers
        )
    except OSError:
        own.close()
        raise
    finally:
        other.close()
    return process, own
