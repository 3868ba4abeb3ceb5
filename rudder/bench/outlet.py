"""Where a process of the benchmark tells its parent: lines of JSON, on a stdout that is for them alone."""

from __future__ import annotations

import json
import os
import sys
from typing import Any


class Outlet:
    """The process's stdout, taken for this alone. Not thread-safe."""

    def __init__(self) -> None:
        """From now on what libraries print (DGL does) goes to stderr."""
        self._stream = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def send(self, **value: Any) -> None:
        """Write a line."""
        print(json.dumps(value), file=self._stream, flush=True)
