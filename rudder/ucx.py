"""Loads UCX, or says why it is not usable here: a capability, never an error of `import rudder`.

UCX comes from the wheel `libucx` (TCP and shared memory) or from the system (RDMA, where it was built with
it). Whichever it is must be in the process before `rudder._ucx`, or two copies of it would be mapped.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import logging
import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rudder.errors import TransportError

if TYPE_CHECKING:
    from types import ModuleType

_log = logging.getLogger("rudder")

HOW_TO_GET = "pip install 'rudder-gnn[ucx]', or apt-get install libucx-dev, and build rudder again"
_INFINIBAND = Path("/sys/class/infiniband")


def load() -> ModuleType:
    """The compiled transport, `rudder._ucx`. Raises TransportError with the reason where it is not usable."""
    reason = why_not()
    if reason is not None:
        raise TransportError(reason)
    return importlib.import_module("rudder._ucx")


@functools.lru_cache(maxsize=1)
def why_not() -> str | None:
    """Why UCX is not usable in this process, and how to get it; None where it is."""
    # Otherwise UCX prints backtraces and stops the process at the user's own signals (SIGSEGV of a script,
    # say); pytest and debuggers have handlers of their own.
    os.environ.setdefault("UCX_HANDLE_ERRORS", "none")
    # Over TCP a message goes in segments, each of them copied and handed to the kernel. UCX's own 8 KiB cost
    # nearly twice the CPU time of a row; from here on more brings nothing, and buffers grow with it.
    for segment in ("UCX_TCP_TX_SEG_SIZE", "UCX_TCP_RX_SEG_SIZE"):
        os.environ.setdefault(segment, "256k")
    # The lock of UCX's ports tells IPv4 addresses apart, and no others.
    os.environ["UCX_TCP_AF_PRIO"] = "inet"
    try:
        # Honours RAPIDS_LIBUCX_PREFER_SYSTEM_LIBRARY. It keeps the library open.
        importlib.import_module("libucx").load_library()
    except ImportError:
        pass  # the system's, then
    except OSError as error:
        return f"the wheel's ucx cannot be loaded: {error}"
    try:
        importlib.import_module("rudder._ucx")
    except ModuleNotFoundError:
        return f"rudder was built without ucx: {HOW_TO_GET}"
    except ImportError as error:
        return f"ucx is absent ({error}): {HOW_TO_GET}"
    return None


def tell_if_open(why: str) -> None:
    """Log it where UCX's own ports could not be locked; ``why``: `UcxServer.why_open`."""
    if why:
        _log.warning("everybody in this network can connect to UCX's own TCP ports: %s", why)


def library() -> Path | None:
    """The file of the UCX library in this process; None where none is loaded."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.partition("/")[2]
        if path.rpartition("/")[2].startswith(("libucp.so", "libucp-")):
            return Path("/" + path)
    return None


def plugins(library: Path) -> list[str]:
    """What a UCX library has beside TCP and plain shared memory, by its plug-ins: "ib" is RDMA."""
    found = library.parent.glob("ucx/libuct_*.so*")
    return sorted({path.name[len("libuct_") :].partition(".so")[0].partition("-")[0] for path in found})


def devices(address: str) -> str:
    """What UCX_NET_DEVICES should be, for a host of this address: the interface that holds it, and RDMA.

    "" leaves the choice to UCX: the user's own UCX_NET_DEVICES wins, and an unknown address binds nothing.
    """
    if "UCX_NET_DEVICES" in os.environ:
        return ""
    interface = interface_of(address)
    if interface is None:
        return ""
    return interface if interface == "lo" else ",".join([interface, *rdma_ports()])


def rdma_ports() -> list[str]:
    """RDMA ports whose link is up, as UCX names them: "mlx5_0:1"."""
    found = []
    for port in sorted(_INFINIBAND.glob("*/ports/*")):
        try:
            state = (port / "state").read_text()
        except OSError:  # the device went away
            continue
        if "ACTIVE" in state:
            found.append(f"{port.parts[-3]}:{port.name}")
    return found


def interface_of(address: str) -> str | None:
    """Name of the network interface that holds an IPv4 address; None where none does."""
    try:
        wanted = socket.inet_aton(socket.gethostbyname(address))
    except OSError:
        return None
    if wanted[0] == 127:  # the whole network is loopback's, whatever addresses it lists
        return "lo"
    return next((name for name, held in _interfaces() if held == wanted), None)


class _Ifaddrs(ctypes.Structure):
    """`struct ifaddrs` of getifaddrs(3)."""


_Ifaddrs._fields_ = [
    ("next", ctypes.POINTER(_Ifaddrs)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.c_void_p),
    ("netmask", ctypes.c_void_p),
    ("destination", ctypes.c_void_p),
    ("data", ctypes.c_void_p),
]


def _interfaces() -> list[tuple[str, bytes]]:
    """(interface, IPv4 address), secondary addresses too; Python's socket module knows only names."""
    libc: Any = ctypes.CDLL(None, use_errno=True)
    first = ctypes.POINTER(_Ifaddrs)()
    if libc.getifaddrs(ctypes.byref(first)) != 0:
        return []
    found = []
    try:
        entry = first
        while entry:
            held = entry.contents
            if held.address:
                # struct sockaddr_in: family (2 bytes, host order), port (2), address (4).
                family, _, ip = struct.unpack("=HH4s", ctypes.string_at(held.address, 8))
                if family == socket.AF_INET:
                    found.append((held.name.decode(), ip))
            entry = held.next
    finally:
        libc.freeifaddrs(first)
    return found
