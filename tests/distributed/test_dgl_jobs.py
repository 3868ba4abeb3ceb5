"""Real DistDGL jobs under `rudder launch`: an unmodified script trains, or dies, and leaves nothing."""

from __future__ import annotations

import contextlib
import signal

import psutil
import pytest

TWO = ("--local", "2", "--part-config")

pytest.importorskip("torch")


def test_script_without_a_word_of_rudder_trains(launcher, ring_parts, workers):
    code, output = launcher.run(*TWO, ring_parts, "--", str(workers / "train.py"), "2")
    assert code == 0, output
    for rank in (0, 1):
        assert f"[host{rank} trainer0] rank {rank} made 20 steps over 300 nodes" in output


def test_samplers_and_backup_servers(launcher, ring_parts, workers):
    code, output = launcher.run(
        *(*TWO, ring_parts, "--samplers", "1", "--servers", "2", "--", str(workers / "train.py"), "2")
    )
    assert code == 0, output
    assert output.count("made 20 steps over 300 nodes") == 2


@pytest.mark.parametrize(
    ("end", "code", "words"),
    [
        ("raise", 1, "ValueError: the trainer's own words"),
        ("killed", 128 + signal.SIGKILL, "was killed by SIGKILL"),
    ],
)
def test_trainer_dies_in_mid_epoch(launcher, ring_parts, workers, end, code, words):
    got, output = launcher.run(*TWO, ring_parts, "--", str(workers / "train.py"), "3", end)
    assert got == code, output
    assert output.count("in mid-epoch") >= 1
    assert words in output[output.index("rudder: host") :]


def test_server_dies(launcher, ring_parts, workers):
    process = launcher.start(*TWO, ring_parts, "--", str(workers / "train.py"), "3", "wait")
    launcher.read_until(process, "in mid-epoch", times=2)
    _find(launcher, "server", host=1).kill()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGKILL
    assert "host1 server0 (rank 1) was killed by SIGKILL" in output


def test_interrupt_with_samplers(launcher, ring_parts, workers):
    process = launcher.start(
        *TWO, ring_parts, "--samplers", "1", "--", str(workers / "train.py"), "3", "wait"
    )
    launcher.read_until(process, "in mid-epoch", times=2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


def _find(launcher, role, host):
    for process in launcher.processes():
        with contextlib.suppress(psutil.Error):
            env = process.environ()
            if env.get("DGL_ROLE") == role and env.get("RUDDER_HOST") == str(host):
                return process
    raise AssertionError(f"no {role} of host {host}")
