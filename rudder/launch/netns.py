"""Hosts as network namespaces joined by a bridge, with shaped links: real packets on one machine. Needs root.

Every namespace is anonymous and lives as long as a process in it: the agent of a host holds the host's, a
helper holds the switch's. When they end, however they end, the kernel removes namespaces, links, the bridge
and each host's /dev/shm.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from types import TracebackType

from rudder.errors import LaunchError

INTERFACE = "eth0"
_SUBNET = "10.117.0"
# tbf: at 1 Gbit/s a bucket of 1 Mbit is 1 ms of sending, below which the kernel's timer would cut the rate;
# the queue holds what arrives within 200 ms and drops the rest, as a switch port would.
_BURST = "1mbit"
_LATENCY = "200ms"
# For slow links a bucket of 1 ms of sending, but of a few packets: a larger one would hold whole minibatches.
_BURST_S, _LEAST_BURST = 0.001, 6000

Attach = Callable[[int, int], None]


def address(host: int) -> str:
    """IPv4 address of a host on the bridge."""
    return f"{_SUBNET}.{host + 1}"


def check_possible(rate: str | None) -> None:
    """Raise LaunchError naming everything that is missing."""
    missing = []
    if os.geteuid() != 0:
        missing.append("the rights of root")
    missing += [
        f"the program {name}" for name in ("ip", "unshare", "nsenter", "mount") if shutil.which(name) is None
    ]
    if rate is not None and shutil.which("tc") is None:
        missing.append("the program tc (package iproute2)")
    if not missing:
        done = subprocess.run(
            ["unshare", "--net", "--mount", "--ipc", "true"], capture_output=True, text=True
        )
        if done.returncode != 0:
            missing.append(f"the right to make namespaces ({done.stderr.strip()})")
    if missing:
        raise LaunchError(
            f"hosts in network namespaces need {', '.join(missing)}; without --netns and --rate the hosts"
            " share this machine's loopback interface and need no rights"
        )


def isolated() -> list[str]:
    """What to put before a command so that it runs in namespaces of its own, with a /dev/shm of its own; its
    pid is the command's."""
    mount = 'mount -t tmpfs tmpfs /dev/shm && exec "$@"'
    return ["unshare", "--net", "--mount", "--ipc", "sh", "-c", mount, "sh"]


class Network:
    """A bridge in a namespace of its own; hosts are attached to it. A context manager."""

    def __init__(self, rate: str | None) -> None:
        """rate: what each host may send per second, as tc spells it; None: as fast as it goes."""
        self._rate = rate
        # `cat` waits on our pipe, so the switch goes away with this process.
        self._switch = subprocess.Popen(
            ["unshare", "--net", "cat"], stdin=subprocess.PIPE, start_new_session=True
        )

    def __enter__(self) -> Network:
        """Build the bridge."""
        try:
            _wait_for_namespace(self._switch.pid)
            self._in(self._switch.pid, "ip", "link", "add", "br0", "type", "bridge")
            self._in(self._switch.pid, "ip", "link", "set", "br0", "up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the bridge."""
        self.close()

    def close(self) -> None:
        """Let the switch go. Idempotent."""
        with contextlib.suppress(OSError):
            self._switch.communicate(timeout=5)

    def host_command(self) -> list[str]:
        """The command that runs an agent in new namespaces; its pid is the agent's."""
        return ["unshare", "--net", "--mount", "--ipc", sys.executable, "-m", "rudder.launch.agent"]

    def attach(self, host: int, pid: int) -> None:
        """Connect the namespace of process `pid` to the bridge, with the host's address and the shaped
        link."""
        _wait_for_namespace(pid)
        port = f"port{host}"
        self._in(
            self._switch.pid,
            *("ip", "link", "add", port, "type", "veth", "peer", "name", INTERFACE, "netns", str(pid)),
        )
        self._in(self._switch.pid, "ip", "link", "set", port, "master", "br0", "up")
        self._in(pid, "ip", "link", "set", "lo", "up")
        self._in(pid, "ip", "address", "add", f"{address(host)}/24", "dev", INTERFACE)
        self._in(pid, "ip", "link", "set", INTERFACE, "up")
        if self._rate is not None:
            self._shape(pid, self._rate, _BURST)

    def slow_down(self, pid: int, bytes_per_second: float) -> None:
        """From now on the host of process `pid` may send no more than this."""
        burst = max(_LEAST_BURST, round(bytes_per_second * _BURST_S))
        self._shape(pid, f"{round(8 * bytes_per_second)}bit", str(burst))

    def _shape(self, pid: int, rate: str, burst: str) -> None:
        shape = ("root", "tbf", "rate", rate, "burst", burst, "latency", _LATENCY)
        self._in(pid, "tc", "qdisc", "replace", "dev", INTERFACE, *shape)

    def _in(self, pid: int, *command: str) -> None:
        done = subprocess.run(
            ["nsenter", "--target", str(pid), "--net", *command], capture_output=True, text=True
        )
        if done.returncode != 0:
            raise LaunchError(f"`{' '.join(command)}` failed in a host's namespace: {done.stderr.strip()}")


def _wait_for_namespace(pid: int) -> None:
    """Wait until `unshare` has left this process's network namespace."""
    ours = os.stat("/proc/self/ns/net").st_ino
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        try:
            if os.stat(f"/proc/{pid}/ns/net").st_ino != ours:
                return
        except OSError as error:
            raise LaunchError("a host's namespace ended before it was set up") from error
        time.sleep(0.005)
    raise LaunchError("a host's namespace did not come up within 10 s")
