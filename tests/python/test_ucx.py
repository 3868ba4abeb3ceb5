"""Finding UCX and the devices to bind, without needing either."""

from __future__ import annotations

import socket
import sys
import types
from pathlib import Path

import pytest

from rudder import ucx
from rudder.errors import TransportError


@pytest.fixture
def unknown():
    """Whether UCX is usable is asked anew, in this test and after it."""
    ucx.why_not.cache_clear()
    yield
    ucx.why_not.cache_clear()


@pytest.mark.usefixtures("unknown")
def test_a_build_without_ucx_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rudder._ucx", None)  # as if it were not there
    assert "pip install 'rudder-gnn[ucx]'" in str(ucx.why_not())
    with pytest.raises(TransportError, match="apt-get install libucx"):
        ucx.load()


@pytest.mark.usefixtures("unknown")
def test_the_wheel_is_loaded_before_the_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setitem(sys.modules, "libucx", types.SimpleNamespace(load_library=lambda: calls.append(1)))
    module = types.ModuleType("rudder._ucx")
    monkeypatch.setitem(sys.modules, "rudder._ucx", module)
    monkeypatch.delenv("UCX_HANDLE_ERRORS", raising=False)
    assert ucx.why_not() is None
    assert ucx.load() is module
    assert calls == [1]
    import os

    assert os.environ["UCX_HANDLE_ERRORS"] == "none"


def test_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("UCX_NET_DEVICES", raising=False)
    monkeypatch.setattr(ucx, "_interfaces", lambda: [("lo", b"\x7f\0\0\1"), ("eth7", b"\x0a\x01\x02\x03")])
    monkeypatch.setattr(ucx, "_INFINIBAND", tmp_path)
    assert ucx.devices("127.0.0.3") == "lo"
    assert ucx.devices("10.1.2.3") == "eth7"
    assert ucx.devices("10.9.9.9") == ""
    assert ucx.devices("no such host.invalid") == ""
    for port, state in (
        ("mlx5_0/ports/1", "4: ACTIVE"),
        ("mlx5_1/ports/1", "1: DOWN"),
        ("mlx5_1/ports/2", "4: ACTIVE"),
    ):
        (tmp_path / port).mkdir(parents=True)
        (tmp_path / port / "state").write_text(state + "\n")
    assert ucx.devices("10.1.2.3") == "eth7,mlx5_0:1,mlx5_1:2"
    monkeypatch.setenv("UCX_NET_DEVICES", "eth0")
    assert ucx.devices("10.1.2.3") == ""


def test_this_machines_interfaces() -> None:
    found = dict(ucx._interfaces())
    assert found["lo"] == socket.inet_aton("127.0.0.1")


def test_plugins_are_named_by_their_files(tmp_path: Path) -> None:
    (tmp_path / "ucx").mkdir()
    for name in ("libuct_ib.so.0", "libuct_ib.so.0.0.0", "libuct_cma-0.1.so.0", "libuct_rdmacm.so"):
        (tmp_path / "ucx" / name).touch()
    assert ucx.plugins(tmp_path / "libucp.so.0") == ["cma", "ib", "rdmacm"]
    assert ucx.plugins(tmp_path / "elsewhere" / "libucp.so.0") == []
