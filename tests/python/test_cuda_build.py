"""What CMake makes of a machine with nvcc, without, and with one that does not work."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def configure(folder: Path, wish: str, nvcc: Path | None = None) -> tuple[int, str]:
    """Status and output of configuring; ``nvcc`` None: the one of this machine."""
    cmake = shutil.which("cmake")
    if cmake is None or shutil.which("c++") is None:
        pytest.skip("no cmake, or no C++ compiler")
    chosen = {"CUDACXX": str(nvcc)} if nvcc is not None else {}
    options = [f"-DRUDDER_WITH_CUDA={wish}", "-DRUDDER_WITH_UCX=OFF", "-DRUDDER_BUILD_PYTHON=OFF"]
    run = subprocess.run(
        [cmake, "-S", str(ROOT), "-B", str(folder / "build"), *options],
        env={**os.environ, **chosen}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return run.returncode, run.stdout + run.stderr


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """An nvcc that compiles nothing."""
    program = tmp_path / "nvcc"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    return program


def test_a_compiler_that_does_not_work_keeps_nobody_from_building_the_rest(
    tmp_path: Path, broken: Path
) -> None:
    status, text = configure(tmp_path, "AUTO", broken)
    assert status == 0, text
    assert "No CUDA: GPUs are left out" in text


def test_cuda_that_was_asked_for_and_is_not_there_is_an_error(tmp_path: Path, broken: Path) -> None:
    status, text = configure(tmp_path, "ON", broken)
    assert status != 0
    assert "RUDDER_WITH_CUDA=ON, but" in text


def test_a_compiler_that_works_is_used_without_being_asked_for(tmp_path: Path) -> None:
    if shutil.which("nvcc") is None:
        pytest.skip("no nvcc on PATH")
    status, text = configure(tmp_path, "AUTO")
    assert status == 0, text
    assert "building for GPUs (80-real;90)" in text
