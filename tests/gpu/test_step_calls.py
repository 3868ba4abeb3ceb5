"""The judge of a step's profile; the profile itself is taken on a GPU, in test_rows.py."""

from __future__ import annotations

import pytest
from step_calls import refused

# As torch's profiler names them: operators, calls and what ran on the GPU.
A_STEP = {
    "aten::mm": 20,
    "cudaLaunchKernel": 90,
    "cudaLaunchKernelExC_v11060": 20,
    "cuLaunchKernelEx": 3,
    "cudaMemcpyAsync": 20,
    "cudaEventRecord": 40,
    "cudaEventQuery_ptsz": 60,
    "cudaStreamWaitEvent": 40,
    "cudaStreamGetCaptureInfo_v2": 9,
    "cudaDeviceSynchronize": 1,
    "Memcpy HtoD (Pinned -> Device)": 20,
    "Memcpy DtoD (Device -> Device)": 1,
    "void cutlass::Kernel2<...>": 20,
}


def test_a_step_that_only_queues_is_fine() -> None:
    assert refused(A_STEP) == {}


@pytest.mark.parametrize(
    "call",
    [
        *(
            "cudaStreamSynchronize",
            "cudaStreamSynchronize_ptsz",
            "cudaEventSynchronize",
            "cudaCtxSynchronize",
        ),
        *(
            "cuStreamSynchronize",
            "cuEventSynchronize",
            "cuCtxSynchronize",
            "cuMemcpyDtoH_v2",
            "cuMemAlloc_v2",
        ),
        *("cudaMemcpy", "cudaMemcpy2D", "cudaMemcpyToSymbol", "cudaMemcpyPeer", "cudaMemset", "cudaMemset2D"),
        *("cudaMalloc", "cudaFree", "cudaHostAlloc", "cudaMallocHost", "cudaFreeHost", "cudaHostRegister"),
        *("cudaHostUnregister", "cudaStreamDestroy", "cudaDeviceReset", "cudaMemGetInfo", "cudaModuleUnload"),
        "Memcpy DtoH (Device -> Pageable)",
        "Memcpy HtoD (Pageable -> Device)",
    ],
)
def test_what_may_wait_is_refused(call: str) -> None:
    assert refused({**A_STEP, call: 2}) == {call: 2}


def test_the_profiler_waits_once_and_nobody_else() -> None:
    assert refused({**A_STEP, "cudaDeviceSynchronize": 3}) == {"cudaDeviceSynchronize": 2}
