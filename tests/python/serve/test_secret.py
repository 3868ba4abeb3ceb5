"""Where the secret comes from, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from rudder.errors import ConfigError
from rudder.serve.secret import new_secret, secret_of_job


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUDDER_SECRET", "RUDDER_SECRET_FILE"):
        monkeypatch.delenv(name, raising=False)


def test_from_the_environment_or_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no secret"):
        secret_of_job()
    path = tmp_path / "secret"
    path.write_text("0123456789abcdef\n")
    path.chmod(0o600)
    monkeypatch.setenv("RUDDER_SECRET_FILE", str(path))
    assert secret_of_job() == b"0123456789abcdef"
    monkeypatch.setenv("RUDDER_SECRET", "fedcba9876543210")
    assert secret_of_job() == b"fedcba9876543210"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_may_read_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int
) -> None:
    path = tmp_path / "secret"
    path.write_text("0123456789abcdef")
    path.chmod(mode)
    monkeypatch.setenv("RUDDER_SECRET_FILE", str(path))
    with pytest.raises(ConfigError, match="chmod 600"):
        secret_of_job()


def test_what_is_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RUDDER_SECRET_FILE", str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        secret_of_job()
    monkeypatch.setenv("RUDDER_SECRET", "hunter2")
    with pytest.raises(ConfigError, match="can be guessed") as caught:
        secret_of_job()
    assert "hunter2" not in str(caught.value)


def test_fresh_ones_differ() -> None:
    assert len({new_secret() for _ in range(100)}) == 100
