"""What a step may ask of CUDA: calls that queue work or tell something, and never wait for the GPU."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: Calls of the runtime and of the driver, without the suffixes of their versions (_v2, _ptsz, _v11060). What
#: is not here is refused, whatever it is: allocations and what frees them are not, since those may wait.
ALLOWED = frozenset(
    {
        # Queue work.
        *("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx"),
        *("cudaMemcpyAsync", "cudaMemsetAsync"),
        # Order streams, and ask how far they are.
        *("cudaEventCreate", "cudaEventCreateWithFlags", "cudaEventDestroy"),
        *("cudaEventRecord", "cudaEventRecordWithFlags", "cudaEventQuery", "cudaStreamWaitEvent"),
        *("cudaStreamIsCapturing", "cudaStreamGetCaptureInfo", "cudaThreadExchangeStreamCaptureMode"),
        *("cudaStreamGetPriority", "cudaStreamQuery"),
        # Tell something that the CPU knows.
        *("cudaGetDevice", "cudaSetDevice", "cudaGetDeviceCount", "cudaGetLastError", "cudaPeekAtLastError"),
        *("cudaDeviceGetAttribute", "cudaGetDeviceProperties", "cudaPointerGetAttributes"),
        *("cudaFuncGetAttributes", "cudaFuncSetAttribute"),
        "cudaOccupancyMaxActiveBlocksPerMultiprocessor",
        "cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags",
        *(
            "cuCtxGetCurrent",
            "cuDevicePrimaryCtxGetState",
            "cuGetProcAddress",
            "cuDeviceGetAttribute",
            "cuFuncGetAttribute",
        ),
    }
)
# The profiler waits for the GPU when it ends, by this call.
_OF_THE_PROFILER = "cudaDeviceSynchronize"
# What a profile calls a call of CUDA, as opposed to operators and kernels; and the end of its name that tells
# a version.
_CALL = re.compile(r"cu(da)?[A-Z]\w*")
_VERSION = re.compile(r"(_v\d+|_ptsz|_ptds)+$")


def refused(seen: Mapping[str, int]) -> dict[str, int]:
    """Of a profile of steps, event names and their counts: what no step may do.

    A copy between the GPU and memory that is not pinned waits, although its call is the same.
    """
    found = {}
    for name, count in seen.items():
        call = _VERSION.sub("", name)
        if _CALL.fullmatch(call) and call not in ALLOWED:
            count -= 1 if call == _OF_THE_PROFILER else 0
        elif "Pageable" not in name:
            continue
        if count > 0:
            found[name] = count
    return found
