"""What the tests of every folder may use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

#: Where real graphs and recorded traces may lie; RUDDER_SHARED names another place. Tests that are made from
#: files there find the place in the same variable.
SHARED = Path(os.environ.get("RUDDER_SHARED") or Path(__file__).resolve().parents[2] / "shared")
os.environ["RUDDER_SHARED"] = str(SHARED)


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """The path of an optional file, e.g. "data/ogbn_arxiv.npz"; skips the test where it is absent."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"no {path} (optional; RUDDER_SHARED names the folder of shared data)")
        return path

    return find
