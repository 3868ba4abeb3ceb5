"""`rudder launch` as users run it, with scripts that need no DGL: logs, failures, signals, nothing left."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

TWO = ("--local", "2", "--part-config")


def test_trainer_environment(launcher, two_parts, workers, tmp_path):
    left = tmp_path / "run" / "rank-9.summary.json"  # of an earlier run with more ranks
    left.parent.mkdir()
    left.write_text("{}")
    code, output = launcher.run(
        *(*TWO, two_parts, "--trainers", "2", "--samplers", "3", "--servers", "2"),
        *("--out", str(tmp_path / "run"), "--record", str(tmp_path / "record"), "--env", "MARK2=1", "--"),
        *(str(workers / "roles.py"), "env"),
    )
    assert code == 0, output
    expected = {
        "DGL_ROLE": "client",
        "DGL_DIST_MODE": "distributed",
        "DGL_NUM_CLIENT": "16",  # 2 hosts x 2 trainers x (1 + 3 samplers)
        "DGL_NUM_SAMPLER": "3",
        "DGL_NUM_SERVER": "2",
        "DGL_CONF_PATH": two_parts,
        "RUDDER_HOST": "1",
        "RUDDER_LOCAL_HOSTS": "0,1",
        "RUDDER_OUT": str(tmp_path / "run"),
        "RUDDER_RECORD": str(tmp_path / "record"),
        "RANK": "3",
        "WORLD_SIZE": "4",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "127.0.0.1",
    }
    for name, value in expected.items():
        assert f"[host1 trainer1] {name}={value}\n" in output, name
    assert f"main={workers / 'roles.py'}" in output
    assert not left.exists()
    runs = {line.split("RUDDER_RUN=")[1] for line in output.splitlines() if "RUDDER_RUN=" in line}
    assert len(runs) == 1
    assert "" not in runs
    assert "[host1 server1] server runs" in output


def test_script_runs_as_main_with_its_arguments(launcher, two_parts, workers, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        "if os.environ['DGL_ROLE'] == 'server':\n    sys.exit(0)\n"
        "addresses = open(sys.argv[2]).read().split()\n"
        "print(__name__, sys.argv[1:2], addresses[::2], sys.path[0])\n"
    )
    code, output = launcher.run(*TWO, two_parts, "--", str(script), "{part_config}", "{ip_config}")
    assert code == 0, output
    line = f"__main__ ['{two_parts}'] ['127.0.0.1', '127.0.0.2'] {tmp_path}"
    assert f"[host0 trainer0] {line}" in output
    assert f"[host1 trainer0] {line}" in output


def test_first_failure_ends_the_job_with_its_traceback(launcher, two_parts, workers):
    code, output = launcher.run(*TWO, two_parts, "--", str(workers / "roles.py"), "raise", "1")
    assert code == 1
    report = output[output.index("rudder: ") :]
    assert report.startswith("rudder: host1 trainer0 (rank 1) failed with exit code 1\nTraceback")
    assert "ValueError: the trainer's own words" in report
    assert "launch/child.py" not in report


@pytest.mark.parametrize(
    ("action", "code", "words"),
    [
        ("exit", 7, "host0 trainer0 (rank 0) failed with exit code 7"),
        ("killed", 128 + signal.SIGKILL, "host0 trainer0 (rank 0) was killed by SIGKILL"),
        ("server-fails", 1, "RuntimeError: the server's own words"),
        ("server-forgets", 1, "without calling dgl.distributed.initialize()"),
    ],
)
def test_failures_end_the_job(launcher, two_parts, workers, action, code, words):
    got, output = launcher.run(*TWO, two_parts, "--", str(workers / "roles.py"), action, "0")
    assert got == code, output
    assert words in output[output.index("rudder: ") :]


def test_a_child_that_outlives_its_trainer_is_ended(launcher, two_parts, workers):
    code, output = launcher.run(*TWO, two_parts, "--", str(workers / "roles.py"), "child")
    assert code == 0, output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_job(launcher, two_parts, workers, number):
    process = launcher.start(*TWO, two_parts, "--", str(workers / "roles.py"), "wait")
    launcher.read_until(process, "runs", times=4)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"rudder: stopped by {number.name}" in output


def test_trainers_may_save_on_interrupt(launcher, two_parts, workers):
    process = launcher.start(*TWO, two_parts, "--", str(workers / "roles.py"), "save")
    launcher.read_until(process, "ready to save", times=2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output.count("saved before the end") == 2


def test_second_interrupt_kills_at_once(launcher, two_parts, workers):
    process = launcher.start(*TWO, two_parts, "--", str(workers / "roles.py"), "deaf")
    launcher.read_until(process, "heard nothing", times=2)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)  # two different ones: the kernel may merge two of the same
    process.communicate(timeout=9)  # before the grace period is over
    assert process.returncode in (130, 143)


def test_killed_launcher_leaves_nothing(launcher, two_parts, workers):
    process = launcher.start(*TWO, two_parts, "--", str(workers / "roles.py"), "wait")
    launcher.read_until(process, "runs", times=4)
    process.kill()
    process.wait()
    launcher.nothing_left()


def test_next_job_removes_what_a_killed_guardian_left(launcher, two_parts, workers):
    process = launcher.start(*TWO, two_parts, "--", str(workers / "roles.py"), "wait")
    launcher.read_until(process, "runs", times=4)
    guardian = next(p for p in launcher.processes() if any("cleanup.py" in part for part in p.cmdline()))
    guardian.kill()
    process.kill()
    process.wait()
    code, output = launcher.run(*TWO, two_parts, "--", str(workers / "roles.py"), "env")
    assert code == 0, output


def test_taken_port(launcher, two_parts, workers):
    with socket.socket() as taken:
        taken.bind(("127.0.0.2", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, output = launcher.run(
            *TWO, two_parts, "--port", str(port), "--", str(workers / "roles.py"), "env"
        )
    assert code == 1
    reason = "cannot be had: Address already in use; choose another with --port"
    assert output == f"rudder: port {port} at 127.0.0.2 {reason}\n"


def test_what_is_missing_is_named(launcher, two_parts, workers, tmp_path):
    script = str(workers / "roles.py")
    bad = tmp_path / "bad.json"
    bad.write_text("{")
    for args, words in [
        ((*TWO, two_parts, "--", "nowhere.py"), "no script nowhere.py"),
        ((*TWO, "nowhere.json", "--", script), "no partition file nowhere.json"),
        ((*TWO, str(bad), "--", script), "is not a DGL partition file"),
        (("--local", "3", "--part-config", two_parts, "--", script), "has 2 partitions for 3 hosts"),
        (("--part-config", two_parts, "--", script), "where should the job run?"),
        ((*TWO, two_parts, "--trainers", "0", "--", script), "trainers must be at least 1"),
        ((*TWO, two_parts, "--env", "x", "--", script), "--env wants KEY=VALUE"),
        (("--ip-config", "no.txt", "--part-config", two_parts, "--", script), "no address file no.txt"),
    ]:
        code, output = launcher.run(*args, env={"SLURM_JOB_NODELIST": ""} if "where" in words else None)
        assert code == 1
        assert words in output.replace(str(Path.cwd()) + "/", "")
        assert "Traceback" not in output
