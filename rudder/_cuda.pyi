"""NVIDIA GPUs, through the CUDA runtime, which is inside this module: it imports where no driver is.
`rudder.gpu` is what to call. Every blocking call releases the GIL."""

from rudder._core import GpuRuntime

#: CUDA that it was built with: "13.0".
version: str

def why_not() -> str:
    """Why no GPU can be used in this process; empty where one can."""

def count() -> int:
    """GPUs that this process may use."""

def open(number: int) -> GpuRuntime:
    """The GPU of that number, as this process counts them. Raises ConfigError where it cannot be used."""
