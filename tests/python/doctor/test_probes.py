"""Each probe against a machine that the test arranges."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any, Callable

import pytest

from rudder import doctor
from rudder.doctor import Check, Status, machine, software
from rudder.doctor.check import human_bytes


def test_examine_reports_every_probe_once_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    probes = tuple(_answer(name) for name in ("first", "second"))
    monkeypatch.setattr(doctor, "PROBES", probes)
    assert [check.name for check in doctor.examine()] == ["first", "second"]


def test_a_broken_probe_leaves_the_rest_of_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Check:
        raise RuntimeError("no such file")

    monkeypatch.setattr(doctor, "PROBES", (broken, _answer("after")))
    first, second = doctor.examine()
    assert (first.status, second.status) == (Status.FAILED, Status.OK)
    assert "no such file" in first.found


@pytest.mark.parametrize("probe", [p for p in doctor.PROBES if p.__module__ == machine.__name__])
def test_every_machine_probe_works_here_and_advises_where_something_lacks(probe: Callable[[], Check]) -> None:
    check = probe()
    assert check.found
    assert check.status is Status.OK or check.advice


def test_one_core_is_called_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_cpu_quota", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0})
    assert machine.cpu().status is Status.LIMITED
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    assert machine.cpu().status is Status.OK


def test_a_containers_quota_below_the_cores_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2, 3})
    monkeypatch.setattr(machine, "_cpu_quota", lambda: 1.5)
    check = machine.cpu()
    assert check.status is Status.LIMITED
    assert "1.5" in check.found


@pytest.mark.parametrize(("free", "status"), [(64 << 20, Status.LIMITED), (8 << 30, Status.OK)])
def test_little_shared_memory_is_told(monkeypatch: pytest.MonkeyPatch, free: int, status: Status) -> None:
    stat = namedtuple("stat", "f_blocks f_bavail f_frsize")(2 * free // 4096, free // 4096, 4096)
    monkeypatch.setattr(os, "statvfs", lambda _path: stat)
    assert machine.shared_memory().status is status


def test_unwritable_shared_memory_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "SHARED_MEMORY", tmp_path / "absent")
    assert machine.shared_memory().status is Status.FAILED


@pytest.mark.parametrize(
    ("limit", "status"),
    [(8 << 20, Status.LIMITED), (64 << 30, Status.OK), (resource.RLIM_INFINITY, Status.OK)],
)
def test_memlock_limit(monkeypatch: pytest.MonkeyPatch, limit: int, status: Status) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (limit, limit))
    assert machine.locked_memory().status is status


def test_a_taken_port_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        monkeypatch.setattr(machine, "DGL_PORT", other.getsockname()[1])
        assert machine.ports().status is Status.LIMITED
    assert machine.ports().status is Status.OK


def test_huge_pages_absent_in_both_kinds_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_meminfo", lambda: {"HugePages_Free": 0, "Hugepagesize": 2 << 20})
    monkeypatch.setattr(machine, "_chosen", lambda _path: "never")
    assert machine.huge_pages().status is Status.LIMITED
    monkeypatch.setattr(machine, "_chosen", lambda _path: "madvise")
    assert machine.huge_pages().status is Status.OK


def test_a_kernel_setting_is_read_between_brackets(tmp_path: Path) -> None:
    setting = tmp_path / "enabled"
    setting.write_text("always [madvise] never\n")
    assert machine._chosen(str(setting)) == "madvise"
    assert machine._chosen(str(tmp_path / "absent")) == ""


def test_no_driver_is_absent_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(_name: str) -> None:
        raise OSError("cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", no_library)
    assert machine.cuda().status is Status.ABSENT


def test_dgl_that_imports_as_it_is_needs_no_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: object())
    monkeypatch.setattr(software, "_in_python", lambda _code: "2.1.0")
    check = software.dgl()
    assert (check.status, check.advice) == (Status.OK, "")


def test_dgl_that_needs_the_layer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_with_rudder(code: str) -> str:
        if not code.startswith("import rudder"):
            raise software._ImportFailedError("FileNotFoundError: graphbolt")
        return "2.1.0"

    monkeypatch.setattr("importlib.util.find_spec", lambda _name: object())
    monkeypatch.setattr(software, "_in_python", only_with_rudder)
    check = software.dgl()
    assert check.status is Status.OK
    assert "compatibility" in check.found


def test_dgl_that_cannot_be_imported_shows_the_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_code: str) -> str:
        raise software._ImportFailedError("ImportError: libfoo.so")

    monkeypatch.setattr("importlib.util.find_spec", lambda _name: object())
    monkeypatch.setattr(software, "_in_python", never)
    check = software.dgl()
    assert check.status is Status.FAILED
    assert "libfoo.so" in check.found


def test_ucx_is_ok_where_rudder_can_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = [None, "1.22.0", "/x/libucp.so", ["cma"], [], ""]
    monkeypatch.setattr(software, "_in_python", lambda _code: json.dumps(answer))
    check = software.ucx()
    assert check.status is Status.OK
    assert check.found == (
        "UCX 1.22.0 (/x/libucp.so), transports: tcp, cma; its TCP ports can be locked; RDMA devices: none,"
        " so one-sided gets are off"
    )


def test_ports_of_ucx_that_cannot_be_locked_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = [None, "1.22.0", "/x/libucp.so", [], [], "the kernel takes no socket filter"]
    monkeypatch.setattr(software, "_in_python", lambda _code: json.dumps(answer))
    check = software.ucx()
    assert check.status is Status.LIMITED
    assert "the kernel takes no socket filter" in check.found
    assert "--no-feature-servers" in check.advice


@pytest.mark.parametrize(("plugins", "status"), [(["cma"], Status.LIMITED), (["cma", "ib"], Status.OK)])
def test_rdma_devices_want_a_ucx_that_knows_them(
    monkeypatch: pytest.MonkeyPatch, plugins: list[str], status: Status
) -> None:
    answer = [None, "1.22.0", "/x/libucp.so", plugins, ["mlx5_0:1"], ""]
    monkeypatch.setattr(software, "_in_python", lambda _code: json.dumps(answer))
    check = software.ucx()
    assert check.status is status
    assert "mlx5_0:1" in check.found
    assert ("this very version of UCX" in check.found) == (status is Status.OK)
    assert ("RAPIDS_LIBUCX_PREFER_SYSTEM_LIBRARY" in check.advice) == (status is Status.LIMITED)


def test_ucx_that_rudder_cannot_use_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = ["rudder was built without ucx: do this"]
    monkeypatch.setattr(software, "_in_python", lambda _code: json.dumps(answer))
    check = software.ucx()
    assert check.status is Status.ABSENT
    assert "built without ucx: do this" in check.advice


def test_without_llama_cpp_the_agent_is_absent_and_the_extra_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software, "_version", lambda _name: "")
    check = software.agent()
    assert check.status is Status.ABSENT
    assert "rudder-gnn[agent]" in check.advice


@pytest.mark.parametrize(
    ("answer", "status", "says"),
    [
        (
            ["", {"parameters": 1_200_000, "decision_ms": 6.04}],
            Status.OK,
            "1.2 M parameters decides in 6.0 ms",
        ),
        (["pilot.gguf is missing", {}], Status.LIMITED, "pilot.gguf is missing"),
        (software._ImportFailedError("ended with -4"), Status.LIMITED, "ended with -4"),
    ],
)
def test_the_agent_is_examined_by_a_decision(
    monkeypatch: pytest.MonkeyPatch, answer: Any, status: Status, says: str
) -> None:
    def run(_code: str) -> str:
        if isinstance(answer, Exception):
            raise answer
        return json.dumps(answer)

    monkeypatch.setattr(software, "_version", lambda _name: "0.3.36")
    monkeypatch.setattr(software, "_in_python", run)
    check = software.agent()
    assert check.status is status
    assert says in check.found
    assert bool(check.advice) == (status is not Status.OK)


def test_a_child_that_fails_gives_its_last_line() -> None:
    assert software._in_python("print('warm up'); print('answer')") == "answer"
    with pytest.raises(software._ImportFailedError, match="ValueError: why"):
        software._in_python("raise ValueError('why')")


def test_a_child_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_args: object, **_kwargs: object) -> None:
        raise subprocess.TimeoutExpired("python", 1)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(software._ImportFailedError, match="no answer"):
        software._in_python("pass")


def test_a_missing_header_names_its_package() -> None:
    check = software._header("x", "no/such/header.h", "libx-dev", "the X tests")
    assert check.status is Status.ABSENT
    assert "libx-dev" in check.advice


def test_looking_loads_neither_torch_nor_dgl() -> None:
    code = (
        "import sys, rudder.doctor as d; d.software.core(); d.software.ucx(); d.machine.cuda();"
        "sys.exit(bool({'torch', 'dgl', 'typer', 'rich'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (8 << 20, "8.0 MiB"), (3 << 40, "3.0 TiB")]
)
def test_human_bytes(count: int, text: str) -> None:
    assert human_bytes(count) == text


def _answer(name: str) -> Callable[[], Check]:
    return lambda: Check(name, Status.OK, "found")
