"""What `make test` installs must be there: its tests would else be skipped, and nobody would see."""

from __future__ import annotations

import importlib
import os

import pytest

#: Modules that RUDDER_REQUIRE names, separated by commas; the Makefile sets it.
REQUIRED = [name for name in os.environ.get("RUDDER_REQUIRE", "").split(",") if name]


@pytest.mark.skipif(not REQUIRED, reason="RUDDER_REQUIRE names no module")
@pytest.mark.parametrize("name", REQUIRED or [""])
def test_it_is_installed(name: str) -> None:
    importlib.import_module(name)
