"""What these tests share: the guard's promise, as a number."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from rudder.agent.guard import PATIENCE
from rudder.rollout.drive import Drive


def beyond(live: Drive, default: Drive) -> float:
    lost = np.array(live.seconds) - default.seconds
    worst = max(0.0, float(np.convolve(lost, np.ones(PATIENCE), "valid").max()))
    return float(lost.sum() - 0.01 * sum(default.seconds) - worst)


@pytest.fixture(scope="session")
def beyond_the_promise() -> Callable[[Drive, Drive], float]:
    """Seconds lost against the default plan, but for 1% of it and the two worst intervals in succession."""
    return beyond
