"""From what data sets hand out to the plain arrays of a Graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rudder.distinct import distinct
from rudder.errors import ConfigError


def single_label(name: str, label: NDArray[Any]) -> NDArray[np.int64]:
    """Labels as int64 [nodes], -1 where they are missing. Raises ConfigError where nodes have several."""
    flat = label.reshape(len(label), -1)
    if flat.shape[1] != 1:
        raise ConfigError(
            f"'{name}' has {flat.shape[1]} labels per node; only single-label data sets are read"
        )
    return np.where(np.isfinite(flat[:, 0]), flat[:, 0], -1).astype(np.int64)


def is_symmetric(src: NDArray[np.integer], dst: NDArray[np.integer], num_nodes: int) -> bool:
    """Is every arc stored in both directions?"""
    src, dst = src.astype(np.int64), dst.astype(np.int64)
    return np.array_equal(distinct(src * num_nodes + dst), distinct(dst * num_nodes + src))
