"""What `rudder.gpu` says where no GPU can be used."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
import types
from pathlib import Path

import pytest

from rudder import gpu


def test_a_build_without_cuda_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rudder._cuda", None)  # as if it were not there
    assert "nvcc" in str(gpu.why_not())
    assert gpu.names() == []


def test_a_machine_without_a_driver_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("rudder._cuda")
    vars(module).update(why_not=lambda: "no CUDA-capable device is detected", version="13.0", count=lambda: 0)
    monkeypatch.setitem(sys.modules, "rudder._cuda", module)
    assert "no CUDA-capable device is detected: install an NVIDIA driver" in str(gpu.why_not())
    assert gpu.names() == []


def test_gpus_older_than_the_kernels_are_named_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old(types.ModuleType):
        version, oldest = "13.0", 1

        def count(self) -> int:
            return 3

        def why_not(self, number: int | None = None) -> str:
            old = self.oldest >= 3 if number is None else number < self.oldest
            return "GPU 0 is of compute capability 7.0" if old else ""

        def open(self, number: int) -> types.SimpleNamespace:
            assert not self.why_not(number)
            return types.SimpleNamespace(name=f"GPU {number}")

    module = Old("rudder._cuda")
    monkeypatch.setitem(sys.modules, "rudder._cuda", module)
    assert gpu.why_not() is None
    assert gpu.names() == ["GPU 1", "GPU 2"]
    module.oldest = 3
    assert gpu.why_not() == "GPU 0 is of compute capability 7.0: give this job a newer GPU"
    assert gpu.names() == []


def test_the_cuda_module_imports_without_a_driver() -> None:
    pytest.importorskip("rudder._cuda", reason="rudder was built without nvcc")
    code = "from rudder import _cuda, gpu; print(_cuda.version, _cuda.count(), gpu.why_not() is None)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    version, count, usable = run.stdout.split()
    assert float(version) >= 12
    assert (int(count) > 0) == (usable == "True")


# A container of GPU code: magic, version, bytes of this header, bytes of what follows.
_CONTAINER = struct.Struct("<IHHQ")
_MAGIC = b"\x50\xed\x55\xba"
# A part of it: 1 for PTX and 2 for machine code, a version, bytes of its header and of what follows, two
# words on compression, the version of PTX (minor, major), the architecture.
_PART = struct.Struct("<HHIQIIHHI")


def gpu_code(module: bytes) -> set[tuple[str, int]]:
    """("ptx" or "machine code", architecture) of all that a module holds for GPUs."""
    found = set()
    at = module.find(_MAGIC)
    while at >= 0:
        _, _, header, size = _CONTAINER.unpack_from(module, at)
        at += header
        end = at + size
        while at < end:
            kind, _, header, size, *_, architecture = _PART.unpack_from(module, at)
            found.add(("ptx" if kind == 1 else "machine code", architecture))
            at += header + size
        at = module.find(_MAGIC, end)
    return found


def test_the_kernels_are_built_for_ampere_hopper_and_what_comes() -> None:
    module = pytest.importorskip("rudder._cuda", reason="rudder was built without nvcc")
    found = gpu_code(Path(module.__file__).read_bytes())
    assert {("machine code", 80), ("machine code", 90), ("ptx", 90)} <= found


def test_the_cuda_module_needs_no_library_of_cuda() -> None:
    module = pytest.importorskip("rudder._cuda", reason="rudder was built without nvcc")
    tool = shutil.which("readelf")
    if tool is None:
        pytest.skip("no readelf")
    run = subprocess.run([tool, "-d", module.__file__], capture_output=True, text=True, timeout=120)
    needed = re.findall(r"NEEDED.*\[(.+)\]", run.stdout)
    assert needed, run.stderr
    assert [name for name in needed if "cuda" in name or "nccl" in name] == []


def test_a_gpu_that_is_not_there_is_a_typed_error() -> None:
    module = pytest.importorskip("rudder._cuda", reason="rudder was built without nvcc")
    from rudder.errors import ConfigError

    with pytest.raises(ConfigError):
        module.open(1000)
