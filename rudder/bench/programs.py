"""Programs of others that a peer runs for a comparison: DistDGL's server, iperf3."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from typing import Any

from rudder.errors import TransportError
from rudder.launch.ports import free_port

_LAST_WORDS = 400


class DglServer:
    """A process that is a DistDGL server, with tables and without a graph: integrations.dgl_kvstore."""

    def __init__(self, spec: dict[str, Any]) -> None:
        """Start it, and wait until it listens. Raises TransportError where it ends before."""
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "rudder.integrations.dgl_kvstore"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "RUDDER_PARENT": str(os.getpid()), "RUDDER_HOST": str(spec["server"])},
        )
        self.pid = self._popen.pid
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # then its output says why
            self._popen.stdin.write(json.dumps(spec) + "\n")
            self._popen.stdin.flush()
        said = ""
        for line in self._popen.stdout:
            said += line
            if "waiting for connections" in line:
                return
        self.close()
        raise TransportError(f"DistDGL's server did not start: {said[-_LAST_WORDS:].strip()}")

    def close(self) -> None:
        """Kill it."""
        _end(self._popen)


class IperfServer:
    """`iperf3` as a server, for as many tests as are asked for, one after the other."""

    def __init__(self, address: str) -> None:
        """Start it. Raises TransportError where it is absent."""
        if shutil.which("iperf3") is None:
            raise TransportError("iperf3 is not installed")
        self.port = free_port(address)
        self._popen = subprocess.Popen(
            ["iperf3", "--server", "--bind", address, "--port", str(self.port), "--forceflush"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.pid = self._popen.pid
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            if "listening" in line:
                return
        raise TransportError("iperf3 did not start")

    def close(self) -> None:
        """Kill it."""
        _end(self._popen)


def iperf_bytes_per_second(host: str, port: int, seconds: float) -> float:
    """What iperf3 receives from a server there. Raises TransportError."""
    done = subprocess.run(
        [
            *("iperf3", "--client", host, "--port", str(port), "--reverse", "--json"),
            *("--time", str(max(1, round(seconds))), "--omit", "1"),
        ],
        capture_output=True,
        text=True,
    )
    try:
        return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 8
    except (ValueError, KeyError) as error:
        raise TransportError(f"iperf3: {(done.stderr or done.stdout)[-_LAST_WORDS:].strip()}") from error


def _end(popen: subprocess.Popen[str]) -> None:
    popen.kill()
    popen.wait()
    for stream in (popen.stdin, popen.stdout):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
