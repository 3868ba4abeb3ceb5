"""The command: its table, its JSON and its exit code."""

from __future__ import annotations

import json

import pytest

from rudder import doctor
from rudder.doctor import Check, Status

typer = pytest.importorskip("typer", reason="the command line is an extra")
from typer.testing import CliRunner  # noqa: E402

GOOD = Check("cpu", Status.OK, "2 of 2 cores")
ABSENT = Check("ucx", Status.ABSENT, "not installed", "apt-get install [libucx-dev]")
FAILED = Check("core", Status.FAILED, "rudder._core cannot be imported", "make env")


def run(monkeypatch: pytest.MonkeyPatch, checks: list[Check], *arguments: str) -> tuple[int, str]:
    from rudder.cli.doctor import register

    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    monkeypatch.setattr(doctor, "examine", lambda: checks)
    result = CliRunner().invoke(app, ["doctor", *arguments])
    return result.exit_code, result.output


def test_absent_extras_do_not_fail_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = run(monkeypatch, [GOOD, ABSENT])
    assert code == 0
    assert "Rudder can run here" in text


def test_advice_is_printed_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "apt-get install [libucx-dev]" in run(monkeypatch, [ABSENT])[1]


def test_a_failed_check_ends_with_one_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = run(monkeypatch, [GOOD, FAILED])
    assert code == 1
    assert "cannot run here" in text


@pytest.mark.parametrize(("checks", "able"), [([GOOD, ABSENT], True), ([FAILED], False)])
def test_json_holds_every_check(monkeypatch: pytest.MonkeyPatch, checks: list[Check], able: bool) -> None:
    code, text = run(monkeypatch, checks, "--json")
    report = json.loads(text)
    assert report["ok"] is able
    assert code == (0 if able else 1)
    assert report["checks"] == [check.as_json() for check in checks]
