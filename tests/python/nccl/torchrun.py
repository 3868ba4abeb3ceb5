"""Jobs that torchrun starts, with the stand-ins of NCCL and CUDA."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def torchrun(ranks: int, script: str, *words: str, **variables: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a script beside this file, run by so many ranks of this machine."""
    pytest.importorskip("torch.distributed.run")
    path = os.pathsep.join(filter(None, sys.path))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    done = subprocess.run(
        [*launcher, str(Path(__file__).with_name(script)), *words],
        env={**os.environ, "PYTHONPATH": path, **variables}, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr
