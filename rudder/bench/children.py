"""Processes of the benchmark, spoken to in lines of JSON."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rudder import errors
from rudder.errors import LaunchError
from rudder.launch import cleanup
from rudder.serve.secret import ENV_SECRET, ENV_SECRET_FILE

_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
_LAST_WORDS = 2000
_GRACE_S = 5.0


class Child:
    """A Python module as a process; it ends with this one. Not thread-safe."""

    def __init__(self, module: str, job: str, secret: str, *, around: Sequence[str] = ()) -> None:
        """``around``: a command that runs it, e.g. in a namespace. Raises LaunchError."""
        self._module = module
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed with the process)
        env = {**os.environ, "RUDDER_JOB": job, "RUDDER_PARENT": str(os.getpid()), ENV_SECRET: secret}
        env.pop(ENV_SECRET_FILE, None)
        # The package must be importable wherever this one is; last, so that it never hides another.
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [env.get("PYTHONPATH"), _PACKAGE_ROOT]))
        try:
            self._popen = subprocess.Popen(
                [*around, sys.executable, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
                env=env,
                start_new_session=True,  # Ctrl-C reaches this process, which ends them all
            )
        except OSError as error:
            raise LaunchError(f"cannot start a process: {error}") from error
        self.pid = self._popen.pid

    def tell(self, value: Any) -> None:
        """Write a line."""
        assert self._popen.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `hear` says why
            self._popen.stdin.write(json.dumps(value) + "\n")
            self._popen.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """The next line. Raises what the process raised, or LaunchError where it ended."""
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        if not line:
            raise LaunchError(
                f"{self._module} ended with {self._popen.wait()}\n{self._last_words()}".rstrip()
            )
        value: dict[str, Any] = json.loads(line)
        if "error" in value:
            raise getattr(errors, value["kind"], LaunchError)(value["error"])
        return value

    def close(self) -> None:
        """End it: it is asked to by the end of its stdin, then killed."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._popen.stdin.close()
        try:
            self._popen.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._popen.stdout.close()
        self._log.close()

    def _last_words(self) -> str:
        self._log.seek(0)
        return self._log.read()[-_LAST_WORDS:]


@contextlib.contextmanager
def job() -> Iterator[str]:
    """An id for processes and segments, none of which is left afterwards, even if this process is killed."""
    made = cleanup.new_job_id()
    guardian = cleanup.start_guardian(made)
    try:
        yield made
    finally:
        cleanup.sweep(made)
        with contextlib.suppress(BrokenPipeError):
            guardian.communicate(b"done")
