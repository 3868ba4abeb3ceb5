"""NVIDIA GPUs, through the CUDA runtime, which is inside this module: it imports where no driver is.
`rudder.gpu` is what to call. Every blocking call releases the GIL."""

from rudder._core import GpuRuntime

#: CUDA that it was built with: "13.0".
version: str

def why_not(number: int | None = None) -> str:
    """Why no GPU can be used in this process, or not this one; empty where it can."""

def count() -> int:
    """GPUs that this process sees."""

def open(number: int) -> GpuRuntime:
    """The GPU of that number, as this process counts them. Raises ConfigError where it cannot be used."""
