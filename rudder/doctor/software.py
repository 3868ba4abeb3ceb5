"""Probes of what is installed: the compiled core, torch, DGL, UCX, the agent's runtime, tools."""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import importlib.util
import json
import shutil
import subprocess
import sys

from rudder.doctor.check import Check, Status

# Importing torch and DGL from a cold disk takes tens of seconds; a hang must not hang the doctor.
IMPORT_TIMEOUT_S = 120
NCCL_ADVICE = "pip install 'rudder-gnn[nccl]', or have it from torch or your site"


def core() -> Check:
    """The compiled core, without which nothing runs."""
    try:
        from rudder import _core
    except ImportError as error:
        return Check(
            "core",
            Status.FAILED,
            f"rudder._core cannot be imported: {error}",
            "pip install -e . --no-build-isolation (in a checkout: make env)",
        )
    return Check("core", Status.OK, f"policies: {', '.join(_core.policy_names())}")


def torch() -> Check:
    """PyTorch, and whether it was built for GPUs."""
    code = "import json, torch; print(json.dumps([torch.__version__, torch.version.cuda]))"
    try:
        version, cuda = json.loads(_in_python(code))
    except _ImportFailedError as error:
        return Check("torch", Status.ABSENT, str(error), "pip install 'rudder-gnn[dgl]' -c constraints.txt")
    return Check("torch", Status.OK, f"{version}, {f'CUDA {cuda}' if cuda else 'CPU only'}")


def dgl() -> Check:
    """DGL, and whether it imports by itself or through Rudder's compatibility layer."""
    advice = "pip install 'rudder-gnn[dgl]' -c constraints.txt (wheels: Python 3.8-3.12)"
    if importlib.util.find_spec("dgl") is None:
        return Check("dgl", Status.ABSENT, "not installed", advice)
    code = "import dgl, dgl.distributed; print(dgl.__version__)"
    try:
        return Check("dgl", Status.OK, f"{_in_python(code)}, imports as it is")
    except _ImportFailedError:
        pass
    try:
        return Check(
            "dgl",
            Status.OK,
            f"{_in_python('import rudder; ' + code)}, through rudder's compatibility layer",
            "write `import rudder` before `import dgl`, or start with rudder launch",
        )
    except _ImportFailedError as error:
        return Check("dgl", Status.FAILED, f"installed, but it cannot be imported: {error}", advice)


# Of the UCX that Rudder would load: why it cannot be used, or [version, file, plug-ins, RDMA ports, why its
# own TCP ports cannot be locked].
_UCX = """
import json
from rudder import ucx
reason, found = ucx.why_not(), []
if reason is None:
    file = ucx.library()
    compiled = ucx.load()
    found = [compiled.library_version(), str(file), ucx.plugins(file) if file else [], ucx.rdma_ports()]
    found.append(compiled.UcxTransport(devices="lo", tls="tcp").why_open)
print(json.dumps([reason, *found]))
"""


def ucx() -> Check:
    """UCX, from the wheel (no RDMA) or the system (RDMA where it was built with it)."""
    try:
        reason, *found = json.loads(_in_python(_UCX))
    except _ImportFailedError as error:
        return Check("ucx", Status.LIMITED, str(error), "rudder works without: pip uninstall libucx-cu13")
    if reason is not None:
        system = ctypes.util.find_library("ucp")
        here = f"the system has {system}" if system else "not installed"
        return Check("ucx", Status.ABSENT, here, f"only for RDMA, or TCP without DGL's RPC: {reason}")
    version, file, plugins, ports, why_open = found
    text = f"UCX {version} ({file}), transports: {', '.join(['tcp', *plugins])}"
    if ports and "ib" not in plugins:
        return Check(
            "ucx",
            Status.LIMITED,
            f"{text}; it has no RDMA, this machine has: {', '.join(ports)}",
            "apt-get install libucx-dev ibverbs-providers, or load your site's UCX, and set"
            " RAPIDS_LIBUCX_PREFER_SYSTEM_LIBRARY=true",
        )
    if why_open:
        return Check(
            "ucx",
            Status.LIMITED,
            f"{text}; its TCP ports cannot be locked: {why_open}",
            "run jobs in a network of their own, or with --no-feature-servers",
        )
    devices = "none, so one-sided gets are off"
    if ports:
        devices = f"{', '.join(ports)}; one-sided gets only between hosts that have this very version of UCX"
    return Check("ucx", Status.OK, f"{text}; its TCP ports can be locked; RDMA devices: {devices}")


def gpu() -> Check:
    """Rudder's own part for GPUs, and whether it can use one."""
    code = "import json; from rudder import gpu; print(json.dumps([gpu.why_not(), gpu.names()]))"
    try:
        reason, names = json.loads(_in_python(code))
    except _ImportFailedError as error:
        return Check("gpu rows", Status.LIMITED, str(error), "rudder works without: rows stay in main memory")
    if reason is not None:
        return Check("gpu rows", Status.ABSENT, "device='cuda' cannot be used", f"only with a GPU: {reason}")
    return Check("gpu rows", Status.OK, f"device='cuda' works on {', '.join(names)}")


# The shipped model's load report, or why there is none: [reason, report]. In a process of its own, since a
# damaged file can end it.
_PILOT = """
import json
from rudder.agent.worker.settings import PILOT
from rudder.errors import RudderError
try:
    from rudder.agent.worker.local import LlamaDecider
    if not PILOT.is_file():
        print(json.dumps([f"{PILOT} is missing", {}]))
    else:
        print(json.dumps(["", LlamaDecider(str(PILOT)).report]))
except RudderError as error:
    print(json.dumps([str(error), {}]))
"""


# Of the NCCL that Rudder would load: why there is none, or [version, file], and why GPUs cannot trade rows.
_NCCL = """
import json
from rudder import nccl
from rudder.errors import RudderError
try:
    print(json.dumps(["", *nccl.library(), nccl.why_not()]))
except RudderError as error:
    print(json.dumps([str(error)]))
"""


def nccl() -> Check:
    """NCCL, from its wheel, torch or the system, and a GPU for it."""
    try:
        reason, *found = json.loads(_in_python(_NCCL))
    except _ImportFailedError as error:
        return Check("nccl", Status.LIMITED, str(error), "rudder works without: GPUs trade no rows")
    if reason:
        return Check("nccl", Status.ABSENT, "not found", f"only for rows between GPUs: {NCCL_ADVICE}")
    version, file, why_not = found
    text = f"NCCL {version} ({file})"
    if why_not is not None:
        return Check("nccl", Status.ABSENT, f"{text}, but {why_not}", "only for rows between GPUs")
    return Check("nccl", Status.OK, text)


def agent() -> Check:
    """llama.cpp and the model that comes with the package, which `controller="agent"` runs."""
    version = _version("llama-cpp-python")
    if not version:
        return Check(
            "agent",
            Status.ABSENT,
            "llama-cpp-python is not installed",
            "only for controller='agent' with a model of this machine: pip install 'rudder-gnn[agent]'",
        )
    found = f"llama-cpp-python {version}"
    try:
        reason, report = json.loads(_in_python(_PILOT))
    except _ImportFailedError as error:
        return Check(
            "agent", Status.LIMITED, f"{found} does not run: {error}", "build it anew for this machine"
        )
    if reason:
        return Check(
            "agent",
            Status.LIMITED,
            f"{found}; the shipped model: {reason}",
            "name another with --agent-model",
        )
    parameters, milliseconds = report["parameters"] / 1e6, report["decision_ms"]
    return Check(
        "agent",
        Status.OK,
        f"{found}; the shipped model of {parameters:.1f} M parameters decides in {milliseconds:.1f} ms",
    )


def plotting() -> Check:
    """matplotlib, which only `--plot` options need."""
    version = _version("matplotlib")
    if version:
        return Check("plotting", Status.OK, f"matplotlib {version}")
    return Check(
        "plotting", Status.ABSENT, "matplotlib is not installed", "only for --plot: pip install matplotlib"
    )


def compiler() -> Check:
    """A C++20 compiler, needed to build from source only."""
    for name in ("c++", "g++", "clang++"):
        path = shutil.which(name)
        if path:
            line = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30).stdout
            return Check("compiler", Status.OK, line.splitlines()[0])
    return Check(
        "compiler",
        Status.ABSENT,
        "no C++ compiler",
        "to build from source: apt-get install g++ (11 or later)",
    )


def gtest() -> Check:
    """GoogleTest, which the C++ tests need."""
    return _header("gtest", "gtest/gtest.h", "libgtest-dev", "the C++ tests")


def benchmark() -> Check:
    """Google Benchmark, which the C++ benchmarks need."""
    return _header("benchmark", "benchmark/benchmark.h", "libbenchmark-dev", "the C++ benchmarks")


class _ImportFailedError(Exception):
    """The last line of what a child process said."""


def _in_python(code: str) -> str:
    """Last line that `code` prints in a fresh interpreter, so that nothing heavy is loaded into this one."""
    try:
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            capture_output=True,
            text=True,
            timeout=IMPORT_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise _ImportFailedError(f"no answer within {IMPORT_TIMEOUT_S} s") from error
    said = (run.stdout if run.returncode == 0 else run.stderr).strip().splitlines()
    if run.returncode != 0:
        raise _ImportFailedError(said[-1] if said else f"ended with {run.returncode}")
    return said[-1] if said else ""


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _header(name: str, header: str, package: str, use: str) -> Check:
    """Asks the compiler, which knows where headers may lie."""
    found = shutil.which("c++") or shutil.which("g++")
    if found:
        run = subprocess.run(
            [found, "-E", "-x", "c++", "-std=c++20", "-"],
            input=f"#include <{header}>\n",
            capture_output=True,
            text=True,
            timeout=60,
        )
        if run.returncode == 0:
            return Check(name, Status.OK, f"<{header}> is found")
    return Check(
        name, Status.ABSENT, f"<{header}> is not found", f"only for {use}: apt-get install {package}"
    )
