"""Profiles of steps on a real GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from step_calls import refused

#: Steps before the profile: blocks, pinned slabs and torch's memory are had by then. And of it.
WARM, PROFILED = 30, 20


def waits_of(step: Callable[[], None]) -> dict[str, int]:
    """What steps in their stride did that no step may do: names and counts. It makes WARM + PROFILED."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    cuda: Any = torch.cuda
    for _ in range(WARM):
        step()
    cuda.set_sync_debug_mode("error")
    try:
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
            for _ in range(PROFILED):
                step()
    finally:
        cuda.set_sync_debug_mode("default")
    called = {event.key: event.count for event in seen.key_averages()}
    assert called["cudaMemcpyAsync"] >= PROFILED, "the profile shows no call of CUDA"
    return refused(called)
