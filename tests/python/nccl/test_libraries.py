"""Looking for NCCL and CUDA, on machines that have neither, one, or both."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rudder.errors import TransportError
from rudder.nccl import libraries

# In a process of its own: what is loaded stays loaded.
LOOK = """
import sys
import rudder, rudder.nccl
assert "torch" not in sys.modules
loaded = [line for line in open("/proc/self/maps") if "nccl.so" in line or "libcud" in line]
assert not loaded, loaded
print(rudder.nccl.why_not())
"""


def look(**variables: str) -> str:
    path = {"PYTHONPATH": ":".join(filter(None, sys.path)), "PATH": "/usr/bin:/bin"}
    run = subprocess.run(
        [sys.executable, "-c", LOOK], env={**path, **variables}, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_importing_opens_nothing_and_what_is_missing_is_said(fakes: dict[str, str], tmp_path: Path) -> None:
    assert look(**fakes) == "None"
    assert "no CUDA-capable device is detected" in look(**fakes, FAKE_CUDA_DEVICES="0")
    other = tmp_path / "libother.so"
    other.write_bytes(b"no library")
    no_nccl = look(RUDDER_NCCL_LIBRARY=str(other), RUDDER_CUDART_LIBRARY=fakes["RUDDER_CUDART_LIBRARY"])
    if no_nccl != "None":  # this machine has none of its own either
        assert libraries.HOW_TO_GET in no_nccl
        assert "NCCL is not here" in no_nccl


def test_the_wheels_library_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "nvidia" / "nccl" / "lib" / "libnccl.so.2"
    file.parent.mkdir(parents=True)
    file.touch()
    (tmp_path / "nvidia" / "nccl" / "__init__.py").touch()
    for name in [name for name in sys.modules if name.split(".")[0] == "nvidia"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("RUDDER_NCCL_LIBRARY", raising=False)
    assert libraries.nccl_files() == [str(file), "libnccl.so.2"]
    with pytest.raises(TransportError, match="NCCL is not here"):
        libraries_of_empty_file(file)


def libraries_of_empty_file(file: Path) -> None:
    from rudder import _nccl

    _nccl.library([str(file)])


def test_a_real_nccl_says_its_version_without_a_driver() -> None:
    try:
        version, file = libraries.library()
    except TransportError as error:
        pytest.skip(f"{error}: {libraries.HOW_TO_GET}")
    assert file.rpartition("/")[2].startswith("libnccl")
    assert [int(part) for part in version.split(".")] >= [2, 14]
