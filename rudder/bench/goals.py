"""What the gathers of a GPU are built to reach, as shares of what bounds them in the same run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rudder.bench.gpu import GpuResult


@dataclass(frozen=True)
class Goal:
    """A ratio that results of one subject must have, from some size of row on."""

    subject: str
    from_row_bytes: int
    #: Field of `GpuResult`.
    field: str
    least: float
    of: str


#: The kernels alone: the list of a batch, which the CPU makes, is in "device", "pinned" and "mixed". Smaller
#: rows waste a part of each memory transaction.
GOALS = (
    Goal("device, by int32", 512, "ratio_to_copy", 0.80, "a copy within the device"),
    Goal("device, by int64", 512, "ratio_to_copy", 0.80, "a copy within the device"),
    Goal("pinned, by int64", 1024, "ratio_to_copy", 0.85, "a copy to the device"),
    Goal("mixed", 1, "speedup", 2.0, "index_select on the CPU and .to()"),
)
# A batch must be larger than the cache of a GPU (50 MB on Hopper): else that is what is measured.
_LEAST_BYTES = 50_000_000


def missed(results: Sequence[GpuResult]) -> list[str]:
    """A line for each result below its goal; one more for each goal that nothing measured stands for."""
    lines = []
    for goal in GOALS:
        judged = [each for each in results if _stands_for(each, goal)]
        if not judged:
            lines.append(
                f"{goal.subject}: not judged, for want of a batch of {_LEAST_BYTES / 1e6:.0f} MB "
                f"in rows of {goal.from_row_bytes} B or more"
            )
        for each in judged:
            reached = float(getattr(each, goal.field))
            if reached < goal.least:
                lines.append(
                    f"{goal.subject}, {each.row_bytes} B a row, {each.rows:,} rows: "
                    f"{reached:.2f} of {goal.of}, the goal is {goal.least:.2f}"
                )
    return lines


def _stands_for(result: GpuResult, goal: Goal) -> bool:
    return (
        result.subject == goal.subject
        and result.row_bytes >= goal.from_row_bytes
        and result.row_bytes * result.rows >= _LEAST_BYTES
    )
