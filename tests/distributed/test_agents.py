"""Jobs over ssh and in SLURM, by programs of those names that run commands here; network namespaces."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from rudder.errors import LaunchError
from rudder.launch import netns

FAKE_SSH = """#!/bin/sh
# ssh -o ... -o ... HOST COMMAND, as the launcher calls it; a host named 127.0.0.99 cannot be reached.
while [ "$1" = -o ]; do shift 2; done
if [ "$1" = 127.0.0.99 ]; then echo "ssh: no route to $1" >&2; exit 255; fi
echo "Welcome to $1"
shift
exec sh -c "$*"
"""
FAKE_SRUN = """#!/bin/sh
while [ "${1#--}" != "$1" ]; do shift; done
exec "$@"
"""
FAKE_SCONTROL = """#!/bin/sh
[ "$*" = "show hostnames node[1-2]" ] && echo localhost && echo localhost
"""


@pytest.fixture
def fakes(tmp_path):
    """PATH with the fakes in front."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("ssh", FAKE_SSH), ("srun", FAKE_SRUN), ("scontrol", FAKE_SCONTROL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture
def addresses(tmp_path):
    path = tmp_path / "ip_config.txt"
    path.write_text("127.0.0.1 31870\n127.0.0.2 31870\n")
    return str(path)


def _over_ssh(addresses, parts, script, *args):
    own = ("--python", sys.executable, "--master-port", "31877")
    return ("--ip-config", addresses, "--part-config", parts, *own, "--", str(script), *args)


def test_ssh(launcher, two_parts, workers, fakes, addresses):
    code, output = launcher.run(
        *_over_ssh(addresses, two_parts, workers / "roles.py", "env"), env={"PATH": fakes}
    )
    assert code == 0, output
    assert "[host1 trainer0] RUDDER_LOCAL_HOSTS=1\n" in output
    assert "[host0 trainer0] MASTER_ADDR=127.0.0.1\n" in output
    assert "[host1 trainer0] RANK=1\n" in output
    assert "Welcome" not in output


def test_the_secret_is_on_no_command_line(launcher, two_parts, workers, fakes, addresses):
    process = launcher.start(
        *_over_ssh(addresses, two_parts, workers / "roles.py", "wait"), env={"PATH": fakes}
    )
    seen = launcher.read_until(process, "runs", times=4)
    found = {}
    for each in launcher.processes():
        with contextlib.suppress(psutil.Error):
            found[each.pid] = (each.environ().get("RUDDER_SECRET", ""), each.environ(), each.cmdline())
    secrets = {secret for secret, _, _ in found.values() if secret}
    assert len(secrets) == 1  # of both hosts' trainers and feature servers
    secret = secrets.pop()
    assert not any(secret in word for _, _, words in found.values() for word in words)
    # DGL's servers, ssh and the agents need it as little as a log does.
    assert {env.get("DGL_ROLE", "feature server") for own, env, _ in found.values() if own} <= {
        "client",
        "feature server",
    }
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert secret not in seen + output


def test_ssh_failure_comes_with_its_traceback(launcher, two_parts, workers, fakes, addresses):
    args = _over_ssh(addresses, two_parts, workers / "roles.py", "raise", "1")
    code, output = launcher.run(*args, env={"PATH": fakes})
    assert code == 1
    assert "rudder: host1 trainer0 (rank 1) failed with exit code 1\nTraceback" in output
    assert "ValueError: the trainer's own words" in output


def test_ssh_signal(launcher, two_parts, workers, fakes, addresses):
    process = launcher.start(
        *_over_ssh(addresses, two_parts, workers / "roles.py", "save"), env={"PATH": fakes}
    )
    launcher.read_until(process, "runs", times=4)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output.count("saved before the end") == 2


def test_killed_launcher_ends_its_agents(launcher, two_parts, workers, fakes, addresses):
    process = launcher.start(
        *_over_ssh(addresses, two_parts, workers / "roles.py", "wait"), env={"PATH": fakes}
    )
    launcher.read_until(process, "runs", times=4)
    process.kill()
    process.wait()
    launcher.nothing_left()


def test_killed_agent_ends_the_job(launcher, two_parts, workers, fakes, addresses):
    process = launcher.start(
        *_over_ssh(addresses, two_parts, workers / "roles.py", "wait"), env={"PATH": fakes}
    )
    launcher.read_until(process, "runs", times=4)
    agent = next(p for p in launcher.processes() if "rudder.launch.agent" in p.cmdline())
    agent.kill()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "lost its agent" in output


def test_unreachable_host(launcher, two_parts, workers, fakes, addresses):
    Path(addresses).write_text("127.0.0.1 31870\n127.0.0.99 31870\n")
    args = _over_ssh(addresses, two_parts, workers / "roles.py", "env")
    code, output = launcher.run(*args, env={"PATH": fakes})
    assert code == 1
    assert "rudder: host1: lost its agent (exit code 255): ssh: no route to 127.0.0.99" in output


def test_slurm(launcher, two_parts, workers, fakes):
    # Both nodes are this machine, so both agents check the same port, which the script's servers do not take.
    own = (
        "--part-config",
        two_parts,
        "--python",
        sys.executable,
        "--port",
        "31880",
        "--master-port",
        "31887",
    )
    env = {"PATH": fakes, "SLURM_JOB_NODELIST": "node[1-2]"}
    code, output = launcher.run(*own, "--", str(workers / "roles.py"), "env", env=env)
    assert code == 0, output
    assert "[host1 trainer0] RANK=1\n" in output
    assert "[host0 trainer0] WORLD_SIZE=2\n" in output


def _possible() -> str:
    try:
        netns.check_possible("1gbit")
    except LaunchError as error:
        return str(error)
    return ""


@pytest.mark.skipif(bool(_possible()), reason=_possible() or "possible")
def test_namespaces(launcher, ring_parts, workers):
    args = ("--local", "2", "--rate", "1gbit", "--part-config", ring_parts)
    code, output = launcher.run(*args, "--", str(workers / "train.py"), "1")
    assert code == 0, output
    assert output.count("made 10 steps over 300 nodes") == 2
    assert "waiting for connections on [10.117.0.2:30050]" in output


@pytest.mark.skipif(bool(_possible()), reason=_possible() or "possible")
def test_namespaces_with_a_rate_that_tc_refuses(launcher, two_parts, workers):
    args = ("--local", "2", "--rate", "quickly", "--part-config", two_parts)
    code, output = launcher.run(*args, "--", str(workers / "roles.py"), "env")
    assert code == 1
    assert "rudder: `tc qdisc replace" in output


def test_namespaces_need_root(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LaunchError, match="need the rights of root"):
        netns.check_possible("1gbit")
