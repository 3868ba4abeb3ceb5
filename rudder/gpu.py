"""GPUs: opens one, or says why none can be used here: a capability, never an error of `import rudder`."""

from __future__ import annotations

import importlib

HOW_TO_GET = "put CUDA's nvcc (12.0 or later) on PATH and build rudder again: pip install . , or make env"


def why_not() -> str | None:
    """Why no GPU can be used in this process, and what to do; None where one can."""
    try:
        module = importlib.import_module("rudder._cuda")
    except ModuleNotFoundError:
        return f"rudder was built without CUDA: {HOW_TO_GET}"
    except ImportError as error:
        return f"rudder's CUDA module cannot be loaded ({error}): {HOW_TO_GET}"
    reason = str(module.why_not())
    if reason:
        return f"{reason}: install an NVIDIA driver for CUDA {module.version}, or give this job a GPU"
    return None


def names() -> list[str]:
    """The GPUs that this process may use, in the order of their numbers; empty where none can be."""
    if why_not() is not None:
        return []
    module = importlib.import_module("rudder._cuda")
    return [module.open(number).name for number in range(module.count())]
