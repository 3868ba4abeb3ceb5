"""Probes of the machine: processors, memory and its limits, ports, namespaces, GPUs. Linux."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import shutil
import socket
import subprocess
from pathlib import Path

from rudder.doctor.check import Check, Status, human_bytes

SHARED_MEMORY = Path("/dev/shm")
# DGL servers hold whole partitions in shared memory; Docker's default of 64 MiB ends in SIGBUS.
LITTLE_SHARED_MEMORY = 1 << 30
# The users' default (8 MiB) pins less than one minibatch of features.
LITTLE_LOCKED_MEMORY = 1 << 30
# Where DGL's servers listen unless told otherwise.
DGL_PORT = 30050


def cpu() -> Check:
    """Cores that this process may use; a container's quota counts."""
    cores = len(os.sched_getaffinity(0))
    found = f"{cores} of {os.cpu_count()} cores"
    quota = _cpu_quota()
    if quota is not None and quota < cores:
        return Check(
            "cpu",
            Status.LIMITED,
            f"{found}, held to {quota:.1f} by the container's quota",
            "raise the container's CPU quota",
        )
    if cores < 2:
        return Check("cpu", Status.LIMITED, found, "sampling, fetching and training overlap from 2 cores on")
    return Check("cpu", Status.OK, found)


def memory() -> Check:
    """Main memory, total and available."""
    sizes = _meminfo()
    total, available = sizes["MemTotal"], sizes["MemAvailable"]
    return Check("memory", Status.OK, f"{human_bytes(available)} of {human_bytes(total)} available")


def shared_memory() -> Check:
    """Room in /dev/shm, where DGL's servers keep partitions and Rudder its shared buffers."""
    name = "shared memory"
    if not os.access(SHARED_MEMORY, os.W_OK):
        return Check(name, Status.FAILED, f"{SHARED_MEMORY} is not writable", "mount a tmpfs on /dev/shm")
    stat = os.statvfs(SHARED_MEMORY)
    total, free = stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize
    found = f"{human_bytes(free)} of {human_bytes(total)} free in {SHARED_MEMORY}"
    if free < LITTLE_SHARED_MEMORY:
        return Check(
            name, Status.LIMITED, found, "containers: --shm-size=8g; else: mount -o remount,size=50% /dev/shm"
        )
    return Check(name, Status.OK, found)


def huge_pages() -> Check:
    """Reserved huge pages, and transparent ones (THP): either makes row arenas quicker."""
    sizes = _meminfo()
    free, size = sizes.get("HugePages_Free", 0), sizes.get("Hugepagesize", 0)
    thp = _chosen("/sys/kernel/mm/transparent_hugepage/enabled")
    found = f"{free} free reserved pages of {human_bytes(size)}; transparent: {thp or 'not in this kernel'}"
    if free == 0 and thp not in ("always", "madvise"):
        return Check(
            "huge pages",
            Status.LIMITED,
            found,
            "as root: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        )
    return Check("huge pages", Status.OK, found)


def locked_memory() -> Check:
    """How much memory may be pinned for GPU copies and RDMA."""
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit == resource.RLIM_INFINITY:
        return Check("locked memory", Status.OK, "unlimited")
    if limit < LITTLE_LOCKED_MEMORY:
        return Check(
            "locked memory",
            Status.LIMITED,
            f"at most {human_bytes(limit)}",
            "for GPU copies and RDMA: memlock unlimited in /etc/security/limits.conf, or ulimit -l unlimited",
        )
    return Check("locked memory", Status.OK, f"at most {human_bytes(limit)}")


def ports() -> Check:
    """DGL's default port, and the range from which free ones are taken."""
    low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    found = f"ephemeral ports {low}-{high}"
    if _can_listen("127.0.0.1", DGL_PORT):
        return Check("ports", Status.OK, f"{found}; DGL's default {DGL_PORT} is free")
    return Check(
        "ports",
        Status.LIMITED,
        f"{found}; DGL's default {DGL_PORT} is taken",
        f"another DGL server may be running: ss -ltnp 'sport = :{DGL_PORT}'",
    )


def hosts() -> Check:
    """Loopback addresses that stand for hosts in `rudder launch --local N`."""
    if _can_listen("127.0.0.2", 0):
        return Check("local hosts", Status.OK, "127.0.0.2 and up can be bound: rudder launch --local N works")
    return Check(
        "local hosts",
        Status.LIMITED,
        "only 127.0.0.1 can be bound",
        "as root: ip addr add 127.0.0.2/8 dev lo",
    )


def namespaces() -> Check:
    """What `rudder demo --rate` needs to give hosts a link of a given rate."""
    lacking = [tool for tool in ("ip", "tc", "unshare") if shutil.which(tool) is None]
    if os.geteuid() != 0:
        return Check("shaped links", Status.ABSENT, "not root", "run rudder demo --rate as root")
    if lacking:
        return Check(
            "shaped links",
            Status.ABSENT,
            f"{', '.join(lacking)} missing",
            "apt-get install iproute2 util-linux",
        )
    allowed = subprocess.run(["unshare", "--net", "true"], capture_output=True, timeout=10).returncode == 0
    if not allowed:
        return Check(
            "shaped links", Status.ABSENT, "network namespaces are forbidden here", "containers: --privileged"
        )
    return Check("shaped links", Status.OK, "root with ip and tc: rudder demo --rate works")


def cuda() -> Check:
    """The NVIDIA driver and its devices, asked without the CUDA toolkit or torch."""
    nvcc = shutil.which("nvcc")
    toolkit = f"; nvcc at {nvcc}" if nvcc else "; no nvcc"
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Check(
            "cuda",
            Status.ABSENT,
            f"no driver{toolkit}",
            "nothing to do without an NVIDIA GPU; with one: install its driver",
        )
    version, devices = ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(devices)) != 0 or devices.value == 0:
        return Check(
            "cuda", Status.ABSENT, f"a driver, but no device{toolkit}", "give this container or job a GPU"
        )
    driver.cuDriverGetVersion(ctypes.byref(version))
    cuda_version = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return Check("cuda", Status.OK, f"{devices.value} device(s), driver for CUDA {cuda_version}{toolkit}")


def _meminfo() -> dict[str, int]:
    """/proc/meminfo; sizes in bytes, page counts as they are."""
    sizes = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        number, *unit = rest.split()
        sizes[name] = int(number) * (1024 if unit == ["kB"] else 1)
    return sizes


def _chosen(path: str) -> str:
    """The bracketed word of a kernel setting like `always [madvise] never`; empty where there is none."""
    try:
        found = re.search(r"\[(\w+)\]", Path(path).read_text())
    except OSError:
        return ""
    return found.group(1) if found else ""


def _cpu_quota() -> float | None:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)


def _can_listen(address: str, port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
            listener.listen(1)
        except OSError:
            return False
    return True
