"""`rudder bench agent --measured` with real processes, over links that the kernel shapes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import rudder
from rudder import ucx
from rudder.errors import LaunchError
from rudder.launch import netns

pytest.importorskip("typer")
pytest.importorskip("rudder._core")

# Minibatches: long enough for a few decisions.
LENGTH = 40


@pytest.fixture(autouse=True)
def _possible() -> None:
    try:
        netns.check_possible("1gbit")
    except LaunchError as error:
        pytest.skip(str(error))
    if (why := ucx.why_not()) is not None:
        pytest.skip(why)


def test_controllers_in_real_time() -> None:
    root = str(Path(rudder.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    options = ["--workloads", "phases,fanout", "--each", "1", "--controllers", "rule", "--interval", "8"]
    options += ["--length", str(LENGTH), "--at-once", "2", "--json", "-"]
    done = subprocess.run(
        [sys.executable, "-m", "rudder.cli", "bench", "agent", "--measured", *options],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [(each["workload"], each["controller"]) for each in found] == [
        (name, controller)
        for name in ("phases:1000", "fanout:1000")
        for controller in ("default", "rule", "default again")
    ]
    for each in found:
        assert each["measured_step_ms"] > 10  # of training alone
        assert each["rows_moved"] > LENGTH
        assert (each["modelled_step_ms"] is None) == (each["controller"] == "default again")


def test_a_link_can_become_slower() -> None:
    held = subprocess.Popen([*netns.isolated(), "cat"], stdin=subprocess.PIPE)
    try:
        with netns.Network("1gbit") as network:
            network.attach(3, held.pid)
            network.slow_down(held.pid, 2.5e6)
            shown = subprocess.run(
                [
                    "nsenter",
                    "--target",
                    str(held.pid),
                    "--net",
                    "tc",
                    "qdisc",
                    "show",
                    "dev",
                    netns.INTERFACE,
                ],
                capture_output=True,
                text=True,
                check=True,
            )
            assert "tbf" in shown.stdout
            assert "rate 20Mbit" in shown.stdout
    finally:
        held.communicate()
