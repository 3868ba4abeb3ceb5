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


_ON_DEVICE = ("ratio_to_copy", 0.80, "a copy within the device")
_ACROSS = ("ratio_to_copy", 0.85, "a copy to the device")
_STOCK = ("speedup", 2.0, "index_select on the CPU and .to()")

#: "by int": the kernel alone, its list on the device already. "The GPU's part": what a step puts on its
#: stream, the upload of its list included. The last two with all that the CPU does, as index_select has it:
#: "a whole batch" is `feats[ids]`. Smaller rows waste a part of each memory transaction.
GOALS = (
    Goal("device, by int32", 512, *_ON_DEVICE),
    Goal("device, by int64", 512, *_ON_DEVICE),
    Goal("device, the GPU's part", 512, *_ON_DEVICE),
    Goal("pinned, by int32", 1024, *_ACROSS),
    Goal("pinned, by int64", 1024, *_ACROSS),
    Goal("pinned, the GPU's part", 1024, *_ACROSS),
    Goal("mixed", 1, *_STOCK),
    Goal("a whole batch", 1, *_STOCK),
)
# A batch and its table must be so many times the GPU's L2, else it is the cache that is measured: at four, no
# more than a quarter of what is read can still lie in it.
_CACHES = 4
# For a GPU whose L2 nobody knows: more than any has (126 MB on B200).
_LARGEST_L2 = 128 << 20


def least_bytes(l2_bytes: int | None) -> int:
    """Bytes from which a batch, and a table, stand for memory. ``l2_bytes``: of the GPU; None: unknown."""
    return _CACHES * (l2_bytes or _LARGEST_L2)


def missed(results: Sequence[GpuResult], least: int) -> list[str]:
    """A line for each result below its goal; one more for each goal that nothing measured stands for.

    least: see `least_bytes`.
    """
    lines = []
    for goal in GOALS:
        judged = [each for each in results if _stands_for(each, goal, least)]
        if not judged:
            lines.append(
                f"{goal.subject}: not judged, for want of a batch and a table of {least / 1e6:.0f} MB "
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


def _stands_for(result: GpuResult, goal: Goal, least: int) -> bool:
    return (
        result.subject == goal.subject
        and result.row_bytes >= goal.from_row_bytes
        and min(result.row_bytes * result.rows, result.table_bytes) >= least
    )
