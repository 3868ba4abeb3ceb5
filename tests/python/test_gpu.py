"""What `rudder.gpu` says where no GPU can be used."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest

from rudder import gpu


def test_a_build_without_cuda_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rudder._cuda", None)  # as if it were not there
    assert "nvcc" in str(gpu.why_not())
    assert gpu.names() == []


def test_a_machine_without_a_driver_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("rudder._cuda")
    vars(module).update(why_not=lambda: "no CUDA-capable device is detected", version="13.0")
    monkeypatch.setitem(sys.modules, "rudder._cuda", module)
    assert "no CUDA-capable device is detected: install an NVIDIA driver" in str(gpu.why_not())
    assert gpu.names() == []


def test_the_cuda_module_imports_without_a_driver() -> None:
    pytest.importorskip("rudder._cuda", reason="rudder was built without nvcc")
    code = "from rudder import _cuda, gpu; print(_cuda.version, _cuda.count(), gpu.why_not() is None)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    version, count, usable = run.stdout.split()
    assert float(version) >= 12
    assert (int(count) > 0) == (usable == "True")


def test_a_gpu_that_is_not_there_is_a_typed_error() -> None:
    module = pytest.importorskip("rudder._cuda", reason="rudder was built without nvcc")
    from rudder.errors import ConfigError

    with pytest.raises(ConfigError):
        module.open(1000)
