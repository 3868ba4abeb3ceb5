"""tests/gpu/run.sh, which runs on a machine with a GPU: what it runs, and what it makes of failures.

Stand-ins of its programs note how they were called. Nothing is built and no GPU is needed.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# What each program would print goes by the name of a variable; FAIL holds a pattern of calls that fail.
STAND_IN = r"""#!/usr/bin/env bash
echo "$(basename "$0") $*" >>"$CALLS"
case "$*" in
  *--query-gpu*) for number in $(seq "$GPUS"); do echo "NVIDIA Example $number, 580.1, 80 GiB"; done ;;
  *rudder.gpu.why_not*) [ -z "$NO_GPU" ] || { echo "$NO_GPU" >&2; exit 1; } ;;
  *rudder.nccl.why_not*) echo "$NO_NCCL" ;;
  *"bench gpu"*) echo "rows from  ms  / copy"; echo "- on NVIDIA Example" ;;
  *pytest*)
    if [ "$SKIPPED" = 0 ]; then
      echo "12 passed in 3.21s"
    else
      echo "SKIPPED [$SKIPPED] tests/gpu/test_blocks.py:60: this DGL has no CUDA"
      echo "12 passed, $SKIPPED skipped, 3 deselected in 3.21s"
    fi
    [[ "$*" != *--tool* ]] || echo "========= ERROR SUMMARY: 0 errors"
    ;;
esac
[ -n "$FAIL" ] && [[ "$*" == *$FAIL* ]] && exit 3
exit 0
"""


class Run:
    def __init__(self, folder: Path, **variables: str) -> None:
        programs = folder / "bin"
        programs.mkdir()
        for name in ("nvidia-smi", "cmake", "python", "compute-sanitizer"):
            (programs / name).write_text(STAND_IN)
            (programs / name).chmod(0o755)
        calls = folder / "calls"
        names = {"CALLS": str(calls), "BUILD": str(folder / "build"), "PYTHON": str(programs / "python")}
        inputs = {"GPUS": "1", "NO_GPU": "", "NO_NCCL": "", "FAIL": "", "SKIPPED": "0", **names, **variables}
        path = f"{programs}:{os.environ['PATH']}"
        script = ["bash", str(ROOT / "tests" / "gpu" / "run.sh")]
        self.done = subprocess.run(
            script, env={**os.environ, "PATH": path, **inputs}, capture_output=True, text=True, timeout=120
        )
        self.calls = calls.read_text().splitlines()
        result = folder / "build" / "out" / "result.md"
        self.result = result.read_text() if result.exists() else ""

    def steps(self, column: int = 2) -> dict[str, str]:
        """Of the table: step and verdict, or what else stands there."""
        rows = [line.split("|") for line in self.result.splitlines() if line.startswith("| ")]
        return {row[1].strip(): row[column].strip() for row in rows[2:]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if not Path("/bin/bash").exists():
        pytest.skip("no bash")
    return tmp_path


def test_everything_runs_and_a_table_says_on_what(folder: Path) -> None:
    run = Run(folder, BENCH="--repeats 51")
    assert run.done.returncode == 0, run.done.stderr
    assert run.steps() == {
        "tests": "passed",
        "nccl": "passed",
        "memcheck": "passed",
        "racecheck": "passed",
        "bench": "passed",
        "exchange": "not run",
    }
    assert run.result.startswith("# Rudder on NVIDIA Example 1\n")
    for told in (
        "580.1",
        "processor: ",
        "commit: ",
        "BENCH='--repeats 51'",
        "/ copy",
        "12 passed",
        "one GPU only",
    ):
        assert told in run.result
    calls = "\n".join(run.calls)
    for built in ("-DRUDDER_WITH_CUDA=ON", "--target _core _cuda _nccl"):
        assert built in calls
    for tool in ("memcheck", "racecheck"):
        assert f"compute-sanitizer --tool {tool} --error-exitcode 7" in calls
    assert "-m rudder.cli bench gpu --goals --json" in calls
    checked = {
        tool: next(call for call in run.calls if f"--tool {tool}" in call)
        for tool in ("memcheck", "racecheck")
    }
    assert "tests/python/nccl" in checked["memcheck"]
    assert "tests/python/nccl" not in checked["racecheck"]
    for call in checked.values():
        assert "tests/gpu" in call
        # All tests but the one that profiles, by its name.
        assert call.endswith("-k not waits_for_nothing")
    assert calls.count("--repeats 51") == 1


@pytest.mark.parametrize("skipped", ["0", "4"])
def test_how_many_tests_skipped_themselves_is_said(folder: Path, skipped: str) -> None:
    run = Run(folder, SKIPPED=skipped)
    assert run.done.returncode == 0, run.done.stderr
    ran = {"tests": skipped, "nccl": skipped, "memcheck": skipped, "racecheck": skipped}
    assert run.steps(column=3) == {**ran, "bench": "", "exchange": ""}
    for step, count in ran.items():
        assert f"==> {step}: {count} tests skipped\n" in run.done.stdout
    assert ("this DGL has no CUDA" in run.result) == (skipped != "0")


def test_several_gpus_trade_rows(folder: Path) -> None:
    run = Run(folder, GPUS="4")
    assert run.steps()["exchange"] == "passed"
    assert any("torch.distributed.run --standalone --nproc-per-node 4" in call for call in run.calls)
    assert "NVIDIA Example 4" in run.result


@pytest.mark.parametrize(
    ("call", "step"),
    [
        ("-s -rs -m gpu -c", "tests"),
        ("--tool memcheck", "memcheck"),
        ("--tool racecheck", "racecheck"),
        ("python/nccl", "nccl"),
        ("--goals", "bench"),
    ],
)
def test_a_step_that_fails_is_said_and_the_others_run(folder: Path, call: str, step: str) -> None:
    run = Run(folder, FAIL=call)
    assert run.done.returncode == 1
    assert run.steps()[step] == "FAILED"
    assert len(run.steps()) == 6


def test_without_nccl_the_rest_is_checked(folder: Path) -> None:
    run = Run(folder, NO_NCCL="NCCL is not here")
    assert run.done.returncode == 0, run.done.stderr
    assert run.steps()["nccl"] == "not run"
    assert run.steps()["memcheck"] == "passed"
    assert not any("python/nccl" in call for call in run.calls)


def test_some_steps_can_be_asked_for(folder: Path) -> None:
    run = Run(folder, STEPS="tests bench", SANITIZER="absent-sanitizer")
    assert run.done.returncode == 0, run.done.stderr
    assert {name for name, verdict in run.steps().items() if verdict == "passed"} == {"tests", "bench"}
    assert run.result.count("not asked for") >= 1
    assert not any("python/nccl" in call for call in run.calls)


def test_a_machine_without_a_gpu_is_no_success(folder: Path) -> None:
    run = Run(folder, NO_GPU="no CUDA-capable device is detected")
    assert run.done.returncode == 1
    assert "no CUDA-capable device" in run.done.stderr
    assert run.result == ""


def test_what_cannot_be_run_is_said(folder: Path) -> None:
    run = Run(folder, NO_NCCL="NCCL is not here", SANITIZER="absent-sanitizer")
    assert run.done.returncode == 1  # without the sanitizer not everything was shown
    assert {run.steps()[name] for name in ("nccl", "memcheck", "racecheck", "exchange")} == {"not run"}
    assert "NCCL is not here" in run.result
    assert "there is no absent-sanitizer" in run.result
