"""Ranks over stand-ins of NCCL and the CUDA runtime, which are built here from tests/cpp/transport/nccl."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
SOURCES = ROOT / "tests" / "cpp" / "transport" / "nccl"

sys.path.insert(0, str(Path(__file__).parent))  # for the tests: nccl_ranks
from nccl_ranks import pinned_array  # noqa: E402


@pytest.fixture(scope="session")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables that make a process use the stand-ins."""
    pytest.importorskip("rudder._nccl", reason="the compiled exchange is missing: make env")
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.skip("no C++ compiler, to build the stand-ins of NCCL and CUDA")
    folder = tmp_path_factory.mktemp("fakes")
    build = [compiler, "-std=c++20", "-O0", "-shared", "-fPIC", "-pthread"]
    cuda, nccl = folder / "libfake_cudart.so", folder / "libfake_nccl.so"
    subprocess.run([*build, str(SOURCES / "fake_cudart.cc"), "-o", str(cuda)], check=True, timeout=120)
    link = [f"-L{folder}", "-lfake_cudart", f"-Wl,-rpath,{folder}"]
    subprocess.run([*build, str(SOURCES / "fake_nccl.cc"), *link, "-o", str(nccl)], check=True, timeout=120)
    return {"RUDDER_NCCL_LIBRARY": str(nccl), "RUDDER_CUDART_LIBRARY": str(cuda)}


@pytest.fixture
def faked(fakes: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The stand-ins, used in this process."""
    for name, value in fakes.items():
        monkeypatch.setenv(name, value)
    return fakes


@pytest.fixture
def pinned(faked: dict[str, str]) -> Callable[[tuple[int, ...], Any], np.ndarray]:
    """Makes arrays in memory that the fake GPU reaches."""
    return lambda shape, dtype: pinned_array(faked["RUDDER_CUDART_LIBRARY"], shape, dtype)


class Job:
    """Ranks that are processes running tests/python/nccl/rank.py."""

    def __init__(self, folder: Path, ranks: int, fakes: dict[str, str], **settings: Any) -> None:
        self._folder = folder
        environment = {**os.environ, **fakes, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        environment.update({name.upper(): str(value) for name, value in settings.items()})
        script = str(Path(__file__).with_name("rank.py"))
        self.processes = [
            subprocess.Popen(
                [sys.executable, script, str(folder), str(rank), str(ranks)],
                env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for rank in range(ranks)
        ]  # fmt: skip

    def said(self) -> list[str]:
        """The last line of each rank; "" of one that was killed."""
        lines = []
        for process in self.processes:
            out, err = process.communicate(timeout=120)
            assert process.returncode in (0, -9), err
            lines.append((out.strip().splitlines() or [""])[-1])
        return lines


@pytest.fixture
def job(tmp_path: Path, fakes: dict[str, str]) -> Any:
    """Starts a job of so many ranks; what is left of it is killed in the end."""
    jobs: list[Job] = []

    def start(ranks: int, **settings: Any) -> Job:
        jobs.append(Job(tmp_path, ranks, fakes, **settings))
        return jobs[-1]

    yield start
    for started in jobs:
        for process in started.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
