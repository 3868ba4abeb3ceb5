"""GPUs: opens one, or says why none can be used here: a capability, never an error of `import rudder`.

torch stays on this side: the core gets addresses and stream handles, and links none of it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, Union

import numpy as np
from numpy.typing import NDArray

from rudder.errors import ConfigError

if TYPE_CHECKING:
    from rudder._core import Gpu as CoreGpu

HOW_TO_GET = "put CUDA's nvcc (12.0 or later) on PATH and build rudder again: pip install . , or make env"


class Streams(Protocol):
    """Where work on a GPU is queued."""

    def current(self) -> int:
        """Handle of the stream on which the caller's work goes now."""
        ...

    def ahead(self) -> AbstractContextManager[Any]:
        """Inside it, the present stream is one of Rudder's own."""
        ...

    def hand_over(self, tensors: Iterable[Any]) -> None:
        """The caller's present stream waits for all that was queued ahead; ``tensors`` were made there."""
        ...


class Gpu:
    """A GPU that rows go to. Tables that share one share what is pinned for it. Thread-safe."""

    def __init__(self, core: CoreGpu, place: str, streams: Streams) -> None:
        """``place``: what torch calls the device. Use `open_gpu`."""
        self.core, self.place, self.streams = core, place, streams

    @property
    def name(self) -> str:
        """As its maker calls it."""
        return self.core.name

    @property
    def cache_bytes(self) -> int | None:
        """Of its L2 cache; None where that is not known."""
        import torch

        if not self.place.startswith("cuda"):
            return None
        properties: Any = torch.cuda.get_device_properties(self.place)
        found = getattr(properties, "L2_cache_size", 0)  # torch 2.3 and older do not have it
        return int(found) or None

    def empty(self, rows: int, row_shape: Iterable[int], dtype: Any) -> Any:
        """A tensor [rows, *row_shape] on the device, contents unspecified. ``dtype``: numpy's or torch's."""
        import torch

        return torch.empty((rows, *row_shape), dtype=_torch_type(dtype), device=self.place)

    def bytes_of(self, rows: Any) -> NDArray[np.uint8]:
        """The rows of a tensor on the device as uint8 [n, row_bytes] in main memory. Waits for the GPU."""
        import torch

        flat: NDArray[np.uint8] = rows.contiguous().reshape(-1).view(torch.uint8).cpu().numpy()
        return flat.reshape(len(rows), -1)

    def __repr__(self) -> str:
        """Place and name."""
        return f"Gpu({self.place!r}, {self.name!r})"


#: What names a GPU: "cuda", "cuda:1", a torch.device, or one that was opened.
GpuLike = Union[str, Gpu, Any]


def open_gpu(device: GpuLike) -> Gpu:
    """The GPU of that name; the same one each time. Raises ConfigError, which says what to do."""
    if isinstance(device, Gpu):
        return device
    kind, _, number = str(device).partition(":")
    if kind != "cuda" or not (number.isdigit() or number == ""):
        raise ConfigError(f"device={device!r}: use 'cuda' or 'cuda:NUMBER', or None for main memory")
    reason = why_not()
    if reason is not None:
        raise ConfigError(f"device={str(device)!r} cannot be used: {reason}")
    import torch

    if not torch.cuda.is_available():
        raise ConfigError(
            f"device={str(device)!r} cannot be used: this torch ({torch.__version__}) was built without CUDA"
        )
    return _open(int(number) if number else torch.cuda.current_device())


def why_not() -> str | None:
    """Why no GPU can be used in this process, and what to do; None where one can."""
    try:
        module = importlib.import_module("rudder._cuda")
    except ModuleNotFoundError:
        return f"rudder was built without CUDA: {HOW_TO_GET}"
    except ImportError as error:
        return f"rudder's CUDA module cannot be loaded ({error}): {HOW_TO_GET}"
    reason = str(module.why_not())
    if reason and module.count() > 0:
        return f"{reason}: give this job a newer GPU"
    if reason:
        return f"{reason}: install an NVIDIA driver for CUDA {module.version}, or give this job a GPU"
    return None


def names() -> list[str]:
    """The GPUs that this process may use, in the order of their numbers; empty where none can be."""
    if why_not() is not None:
        return []
    module = importlib.import_module("rudder._cuda")
    numbers = (number for number in range(module.count()) if not module.why_not(number))
    return [module.open(number).name for number in numbers]


@functools.cache
def _open(number: int) -> Gpu:
    from rudder import _core

    module = importlib.import_module("rudder._cuda")
    return Gpu(_core.Gpu(module.open(number)), f"cuda:{number}", _TorchStreams(number))


class _TorchStreams:
    """torch's streams of one GPU."""

    def __init__(self, number: int) -> None:
        import torch

        # torch's streams have no types.
        self._torch: Any = torch
        self._number = number
        self._own = self._torch.cuda.Stream(device=number)

    def current(self) -> int:
        return int(self._torch.cuda.current_stream(self._number).cuda_stream)

    @contextlib.contextmanager
    def ahead(self) -> Any:
        with self._torch.cuda.stream(self._own):
            yield

    def hand_over(self, tensors: Iterable[Any]) -> None:
        stream = self._torch.cuda.current_stream(self._number)
        stream.wait_stream(self._own)
        for tensor in tensors:
            if tensor.is_cuda:  # its memory is not used again before this stream is done with it, too
                tensor.record_stream(stream)


def _torch_type(dtype: Any) -> Any:
    import torch

    if isinstance(dtype, torch.dtype):
        return dtype
    try:
        return torch.from_numpy(np.empty(0, dtype=dtype)).dtype
    except TypeError as error:
        raise ConfigError(f"torch has no type for rows of {dtype}: {error}") from error
