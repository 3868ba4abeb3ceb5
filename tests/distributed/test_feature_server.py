"""Feature servers in real jobs: right rows, and what trainers see when one is killed, stopped or cut off."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from rudder import ucx
from rudder.launch.netns import INTERFACE, check_possible

pytest.importorskip("torch")
pytest.importorskip("typer")
if ucx.why_not() is not None:
    pytest.skip(str(ucx.why_not()), allow_module_level=True)

TWO = ("--local", "2", "--part-config")
SMALL = ("--nodes", "4000", "--feature-dim", "16", "--batch-size", "200", "--fanout", "5,5")


def feature_server(launcher: Any, partition: int) -> psutil.Process:
    """The process that serves that partition."""
    for process in launcher.processes():
        words = process.cmdline()
        ours = any(word.endswith("rudder/serve/__main__.py") for word in words)
        if ours and json.loads(words[-1])["partition"] == partition:
            return process
    raise AssertionError(f"no feature server of partition {partition}: {launcher.processes()}")


class Job:
    """A ring in two parts whose first trainer reads rows of the second part; see workers/served.py."""

    def __init__(
        self,
        launcher: Any,
        parts: str,
        script: Path,
        scenario: str,
        transport: str,
        *args: str,
        within: float = 30.0,
        deadline: float = 30.0,
    ) -> None:
        self.launcher, self.folder = launcher, launcher.folder
        options = {"transport": transport, "deadline": deadline}
        given = json.dumps({"folder": str(self.folder), "options": options, "within": within})
        self.process = launcher.start(*TWO, parts, *args, "--", str(script), scenario, given)
        self.seen = launcher.read_until(self.process, "served by")

    def say(self, word: str) -> None:
        (self.folder / word).touch()

    def server(self) -> psutil.Process:
        return feature_server(self.launcher, 1)

    def goes_and_comes_back(self, away: Callable[[Any], None], back: Callable[[Any], None]) -> None:
        server = self.server()
        away(server)
        self.say("go")
        self.launcher.read_until(self.process, "away")
        back(server)
        self.say("back")
        self.ended_well()

    def ended_well(self) -> str:
        output, _ = self.process.communicate(timeout=150)
        assert self.process.returncode == 0, self.seen + output
        assert "as expected" in output
        return str(output)


@pytest.fixture
def job(launcher: Any, ring_parts: str, workers: Path) -> Any:
    def start(scenario: str, transport: str, *args: str, **times: float) -> Job:
        return Job(launcher, ring_parts, workers / "served.py", scenario, transport, *args, **times)

    return start


def test_a_killed_server_is_replaced_by_the_next_transport(job: Any) -> None:
    running = job("falls_back", "ucx,kvstore")
    assert "served by ucx" in running.seen
    running.server().kill()
    running.say("go")
    output = running.ended_well()
    assert output.count("this feature server ended by SIGKILL") == 1
    assert output.count("lost the feature server of partition 1") == 1


def test_a_killed_server_without_another_transport_is_a_typed_error(job: Any) -> None:
    running = job("ends", "ucx", within=10.0)
    running.server().kill()
    running.say("go")
    assert "rows of partition 1 could not be fetched" in running.ended_well()


def test_a_stopped_server_misses_the_deadline_and_comes_back(job: Any) -> None:
    running = job("returns", "ucx", deadline=2.0, within=12.0)
    running.goes_and_comes_back(psutil.Process.suspend, psutil.Process.resume)


def test_a_stopped_server_is_replaced_by_the_next_transport(job: Any) -> None:
    running = job("falls_back", "ucx,kvstore", deadline=2.0)
    running.server().suspend()
    running.say("go")
    running.ended_well()


def test_a_server_that_is_back_is_used_again(job: Any) -> None:
    running = job("climbs_back", "ucx,kvstore", deadline=2.0)
    running.goes_and_comes_back(psutil.Process.suspend, psutil.Process.resume)


def test_a_trainer_without_the_secret_gets_nothing(job: Any) -> None:
    running = job("is_refused", "ucx,kvstore")
    running.say("go")
    output = running.seen + running.ended_well()
    assert "proof of the job's secret is wrong" in output
    assert "not the secret of this job" not in output


def test_without_feature_servers(job: Any, launcher: Any, ring_parts: str, workers: Path) -> None:
    code, output = launcher.run(
        *(*TWO, ring_parts, "--no-feature-servers", "--", str(workers / "attach.py"), "train"),
        json.dumps({"transport": "ucx"}),
    )
    assert code == 1
    assert "no feature servers run" in output


def test_the_secret_shows_nowhere(job: Any, launcher: Any) -> None:
    running = job("falls_back", "ucx,kvstore")
    secret = running.server().environ()["RUDDER_SECRET"]
    assert len(secret) == 64
    assert not [p for p in launcher.processes() if any(secret in word for word in p.cmdline())]
    running.server().kill()
    running.say("go")
    output = running.seen + running.ended_well()
    assert secret not in output
    files = [path for path in launcher.folder.rglob("*") if path.is_file()]
    assert not [path for path in files if secret.encode() in path.read_bytes()]


def test_training_on_four_hosts_is_verified(demo: Any, tmp_path: Path) -> None:
    found = tmp_path / "numbers.json"
    args = ("--hosts", "4", "--epochs", "2", "--transport", "ucx", "--verify", "--json", str(found))
    process = demo(*SMALL, *args)
    output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output
    numbers = json.loads(found.read_text())
    assert numbers["transports"] == ["ucx"]
    assert numbers["differing_rows"] == 0
    assert numbers["verified_rows"] > 0


def wait_for_epoch(out: Path, demo: subprocess.Popen[str]) -> None:
    """Until the run with Rudder has ended an interval, so that it is amid an epoch."""
    while demo.poll() is None:
        files = (out / "rudder").rglob("*.jsonl")
        if any('"kind": "interval"' in path.read_text() for path in files):
            return
        time.sleep(0.05)  # nothing tells of a file's growth
    raise AssertionError(demo.communicate()[0])


@pytest.mark.parametrize(
    ("hosts", "transport", "code"), [(2, "ucx,kvstore", 0), (2, "ucx", 1), (4, "ucx,kvstore", 0)]
)
def test_a_server_killed_in_mid_epoch(
    demo: Any, launcher: Any, tmp_path: Path, hosts: int, transport: str, code: int
) -> None:
    out, found = tmp_path / "out", tmp_path / "numbers.json"
    args = ["--hosts", str(hosts), "--epochs", "20", "--transport", transport]
    process = demo(*SMALL, *args, "--verify", "--json", str(found), "--out", str(out))
    wait_for_epoch(out, process)
    feature_server(launcher, 1).send_signal(signal.SIGKILL)
    killed = time.monotonic()
    output, _ = process.communicate(timeout=250)
    assert process.returncode == code, output
    log = (out / "rudder.log").read_text()
    assert "this feature server ended by SIGKILL" in log
    if code == 0:
        numbers = json.loads(found.read_text())
        assert numbers["transports"] == ["kvstore", "ucx"]
        assert numbers["differing_rows"] == 0
        assert numbers["verified_rows"] > 0
        assert numbers["same_minibatches"]
    else:
        assert time.monotonic() - killed < 30
        assert "rows of partition 1 could not be fetched: ucx" in output


@pytest.fixture
def shaped() -> None:
    try:
        check_possible("1gbit")
    except Exception as error:
        pytest.skip(str(error))


def link(process: psutil.Process, state: str) -> None:
    """Cut or restore the link of the host that a process runs on."""
    words = ("ip", "link", "set", INTERFACE, state)
    subprocess.run(["nsenter", "--target", str(process.pid), "--net", *words], check=True)


@pytest.mark.slow
@pytest.mark.usefixtures("shaped")
def test_a_link_that_is_cut_and_restored(job: Any) -> None:
    running = job("returns", "ucx", "--netns", deadline=3.0, within=15.0)
    running.goes_and_comes_back(lambda server: link(server, "down"), lambda server: link(server, "up"))


@pytest.mark.slow
@pytest.mark.usefixtures("shaped")
def test_a_slow_link(demo: Any, tmp_path: Path) -> None:
    found = tmp_path / "numbers.json"
    args = ("--epochs", "1", "--rate", "50mbit", "--transport", "ucx", "--verify", "--json", str(found))
    process = demo(*SMALL, *args)
    output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output
    numbers = json.loads(found.read_text())
    assert numbers["transports"] == ["ucx"]
    assert numbers["differing_rows"] == 0
