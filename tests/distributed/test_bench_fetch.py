"""`rudder bench fetch` with real processes: its fields, its checks, its two-machine form."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import rudder
from rudder import ucx
from rudder.bench import shared_rows
from rudder.bench.peer import Peer
from rudder.bench.result import CrowdResult, FetchResult
from rudder.errors import LaunchError
from rudder.launch import netns

pytest.importorskip("typer")
pytest.importorskip("rudder._core")

QUICK = ("--quick", "--repeats", "2", "--seconds", "0.05", "--table-bytes", "4MiB")
SECRET = "a secret of the tests, long enough"


def bench(*args: str, secret: str | None = None) -> subprocess.CompletedProcess[str]:
    root = str(Path(rudder.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "PYTHONPATH": path, **({"RUDDER_SECRET": secret} if secret else {})}
    return subprocess.run(
        [sys.executable, "-m", "rudder.cli", "bench", "fetch", *args],
        capture_output=True,
        text=True,
        env=env,
        timeout=120,
    )


def measured(*args: str, secret: str | None = None) -> list[dict[str, Any]]:
    done = bench(*QUICK, *args, "--json", "-", secret=secret)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def segments() -> set[str]:
    """Of the benchmark, left by commands that have ended."""
    names = {name for name in os.listdir("/dev/shm") if name.startswith("rudder.") and "bench" in name}
    return {name for name in names if not Path("/proc", name.split(".")[1].split("-")[1]).exists()}


def test_every_transport_on_this_machine() -> None:
    before = segments()
    results = measured("--row-bytes", "100,512", "--rows", "1,300", "--in-flight", "1,3")
    with_dgl = importlib.util.find_spec("dgl") is not None
    expected = ["shm", *(["ucx"] if ucx.why_not() is None else []), *(["kvstore"] if with_dgl else [])]
    assert [
        (each["row_bytes"], each["rows_per_request"], each["transport"], each["in_flight"])
        for each in results
    ] == [
        (row_bytes, rows, transport, in_flight)
        for row_bytes in (100, 512)
        for rows in (1, 300)
        for transport in expected
        for in_flight in (1, 3)
    ]
    for each in results:
        assert list(each) == [field.name for field in fields(FetchResult)]
        assert each["verified"] is True
        assert each["link"] == "loopback"
        assert each["peers"] == 1
        assert 0 < each["p50_us"] <= each["p99_us"] <= each["p999_us"]
        assert each["rows_per_second"] > 0
        assert each["gigabytes_per_second"] == pytest.approx(
            each["rows_per_second"] * each["row_bytes"] / 1e9
        )
        assert each["ratio_to_memcpy_gather"] > 0
        assert each["ratio_to_raw_stream"] > 0
        assert each["cpu_ns_per_row"] > 0
        assert (each["ratio_to_distdgl_pull"] or 0) > 0 if with_dgl else each["ratio_to_distdgl_pull"] is None
    assert segments() <= before


def test_several_peers() -> None:
    results = measured(
        "--row-bytes", "64", "--rows", "100", "--peers", "1,3", "--no-dgl", "--transport", "shm"
    )
    assert [each["peers"] for each in results] == [1, 3]
    assert all(each["verified"] for each in results)


def test_several_clients() -> None:
    results = measured("--row-bytes", "64", "--rows", "100", "--clients", "3", "--transport", "shm")
    (only,) = results
    assert list(only) == [field.name for field in fields(CrowdResult)]
    assert only["clients"] == 3
    assert only["verified"] is True
    assert only["ratio_to_one_client"] > 0
    assert 0 < only["slowest_to_mean"] <= 1


@pytest.fixture
def standing(monkeypatch: pytest.MonkeyPatch):
    """Starts a peer in this process, as `--server` does, and says how to connect."""
    monkeypatch.setenv("RUDDER_JOB", f"test-{os.getpid()}-0-0")
    peers = []

    def start() -> str:
        peers.append(Peer(SECRET.encode(), "127.0.0.1"))
        return "{}:{}".format(*peers[-1].address)

    yield start
    for peer in peers:
        peer.close()


def test_two_machines(standing) -> None:
    place = standing()
    results = measured("--connect", place, "--row-bytes", "64", "--rows", "50", "--no-dgl", secret=SECRET)
    assert {each["link"] for each in results} == {"127.0.0.1"}
    assert all(each["verified"] for each in results)


TRANSPORTS = [
    "shm",
    pytest.param("ucx", marks=pytest.mark.skipif(ucx.why_not() is not None, reason=str(ucx.why_not()))),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("clients", ["1", "2"])
def test_a_table_with_wrong_bytes_fails(standing, monkeypatch, tmp_path, transport, clients) -> None:
    stock = shared_rows.fill

    def wrong(out, seed, peer):
        stock(out, seed, peer)[7, 3] ^= 1
        return out

    monkeypatch.setattr(shared_rows, "fill", wrong)
    report = tmp_path / "report.json"
    done = bench(
        *(*QUICK, "--row-bytes", "64", "--rows", "500", "--table-bytes", "64000", "--no-dgl"),
        *("--transport", transport, "--clients", clients, "--connect", standing(), "--json", str(report)),
        secret=SECRET,
    )
    assert done.returncode == 1, done.stderr
    assert "bytes differ" in done.stderr
    assert "BYTES DIFFER" in done.stdout
    assert [each["verified"] for each in json.loads(report.read_text())] == [False]


def test_behind_a_shaped_link() -> None:
    try:
        netns.check_possible("100mbit")
    except LaunchError as error:
        pytest.skip(str(error))
    if ucx.why_not() is not None and importlib.util.find_spec("dgl") is None:
        pytest.skip("nothing crosses a link without UCX and DGL")
    results = measured("--link", "100mbit", "--row-bytes", "512", "--rows", "500")
    assert {each["link"] for each in results} == {"100mbit"}
    assert "shm" not in {each["transport"] for each in results}  # the peers' shared memory is their own
    for each in results:
        assert each["verified"] is True
        assert each["gigabytes_per_second"] < 0.1  # 100 Mbit/s is 0.0125, after a burst


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--transport", "nccl"), "use shm, ucx, kvstore"),
        (("--connect", "127.0.0.1:9", "--link", "1gbit"), "exclude"),
        (("--connect", "nonsense"), "HOST:PORT"),
        (("--peers", "2", "--connect", "127.0.0.1:9"), "names 1"),
        (("--json", "/nowhere/at/all.json"), "no such folder"),
        (("--plot", "picture.txt"), "--plot"),
        (("--clients", "0"), "--clients"),
        (("--server", "--address", "203.0.113.7", "--port", "0"), "cannot listen"),
    ],
)
def test_what_cannot_be_is_one_line(args: tuple[str, ...], words: str) -> None:
    done = bench(*args, secret=SECRET)
    assert done.returncode == 1
    assert done.stderr.startswith("rudder: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_connecting_needs_the_secret_and_a_server() -> None:
    done = bench("--connect", "127.0.0.1:9", secret=SECRET)
    assert done.returncode == 1
    assert "--server" in done.stderr
    for name in ("RUDDER_SECRET", "RUDDER_SECRET_FILE"):
        assert name not in os.environ
    assert "RUDDER_SECRET_FILE" in bench("--connect", "127.0.0.1:9").stderr


def test_a_server_tells_where_it_is_and_keeps_its_secret() -> None:
    root = str(Path(rudder.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    server = subprocess.Popen(
        [sys.executable, "-m", "rudder.cli", "bench", "fetch", "--server", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert server.stdout is not None
    place = server.stdout.readline().split()[2].rstrip(";")
    file = Path(server.stdout.readline().split()[0].split("COPY_OF_")[1])
    assert file.stat().st_mode & 0o777 == 0o600
    secret = file.read_text()
    assert measured("--connect", place, "--no-dgl", "--row-bytes", "64", "--rows", "50", secret=secret)
    server.terminate()
    assert server.wait(20) == 0
    assert not file.exists()
