"""The command: subcommands are found by module, imported when asked for, and absent ones do not matter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import rudder

pytest.importorskip("typer")


def _rudder(*args, code="from rudder.cli import main; main()"):
    root = str(Path(rudder.__file__).resolve().parents[1])
    command = [sys.executable, "-c", code, *args]
    env = {**os.environ, "PYTHONPATH": root, "COLUMNS": "120"}
    return subprocess.run(command, capture_output=True, text=True, env=env)


def test_help_lists_subcommands():
    done = _rudder("--help")
    assert done.returncode == 0, done.stderr
    assert "launch" in done.stdout


def test_only_the_named_subcommand_is_imported():
    code = (
        "import sys; from rudder.cli import build_app; build_app(['launch'])\n"
        "print(sorted(name for name in sys.modules if name.startswith('rudder.cli.')))"
    )
    assert _rudder(code=code).stdout == "['rudder.cli.launch']\n"


def test_a_missing_module_is_not_offered():
    code = (
        "import rudder.cli as cli\n"
        "cli.SUBCOMMANDS = ('launch', 'nonesuch')\n"
        "print([command.name for command in cli.build_app([]).registered_commands])"
    )
    assert _rudder(code=code).stdout == "['launch']\n"


def test_own_errors_are_one_line():
    done = _rudder("launch", "--local", "1", "--part-config", "none.json", "--", "none.py")
    assert done.returncode == 1
    assert (
        done.stderr
        == f"rudder: no script {Path.cwd() / 'none.py'}: give the path of a Python file after '--'\n"
    )
