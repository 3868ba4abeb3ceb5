"""Where NCCL and the CUDA runtime may lie, and why they are not usable here.

Each comes from its wheel or from the system. One that the process has already (torch's) is used in any case.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path

from rudder.errors import RudderError

HOW_TO_GET = "pip install 'rudder-gnn[nccl]'"

# Files that are used before any other: a site's own build, or a test's stand-in.
ENV_NCCL, ENV_CUDART = "RUDDER_NCCL_LIBRARY", "RUDDER_CUDART_LIBRARY"


def nccl_files() -> list[str]:
    """Candidates for NCCL, best first."""
    return _files(ENV_NCCL, {"nvidia.nccl": ["libnccl.so.2"]}, ["libnccl.so.2"])


def cuda_files() -> list[str]:
    """Candidates for the CUDA runtime, best first."""
    names = ["libcudart.so.13", "libcudart.so.12"]
    wheels = {"nvidia.cu13": names[:1], "nvidia.cuda_runtime": names[1:]}
    return _files(ENV_CUDART, wheels, [*names, "/usr/local/cuda/lib64/libcudart.so"])


def library() -> tuple[str, str]:
    """Version and file of the NCCL that would be used ("2.27.3", ...). Raises TransportError without one."""
    code, file = importlib.import_module("rudder._nccl").library(nccl_files())
    return f"{code // 10000}.{code // 100 % 100}.{code % 100}", file


def why_not(device: int = 0) -> str | None:
    """Why GPUs cannot trade rows in this process, and what to do; None where they can."""
    try:
        compiled = importlib.import_module("rudder._nccl")
    except ImportError as error:
        return f"rudder's exchange cannot be loaded ({error}): build rudder again"
    try:
        compiled.library(nccl_files())
    except RudderError as error:
        return f"{error}: {HOW_TO_GET}"
    try:
        compiled.check_gpu(cuda_files(), device)
    except RudderError as error:
        return str(error)
    return None


def _files(variable: str, wheels: dict[str, list[str]], system: list[str]) -> list[str]:
    found = [os.environ[variable]] if variable in os.environ else []
    for package, names in wheels.items():
        try:
            spec = importlib.util.find_spec(package)
        except ModuleNotFoundError:  # not even its parent is here
            continue
        for folder in (spec.submodule_search_locations or []) if spec else []:
            paths = [Path(folder) / "lib" / name for name in names]
            found.extend(str(path) for path in paths if path.exists())
    return found + system
