"""The job's secret: made by the launcher, handed on in the environment, never in an argument or a log."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from rudder.errors import ConfigError

ENV_SECRET = "RUDDER_SECRET"
ENV_SECRET_FILE = "RUDDER_SECRET_FILE"
# Below this a secret made by hand could be found by trying.
_LEAST_BYTES = 16
_FILE_BYTES = 4096


def new_secret() -> str:
    """A fresh secret, as text for the environment."""
    return secrets.token_hex(32)


def secret_of_job() -> bytes:
    """The secret that RUDDER_SECRET holds, or the file that RUDDER_SECRET_FILE names. Raises ConfigError."""
    text = os.environ.get(ENV_SECRET)
    if text is None:
        path = os.environ.get(ENV_SECRET_FILE)
        if path is None:
            raise ConfigError(
                f"no secret: put one, the same on every host, into a file (mode 0600) that {ENV_SECRET_FILE}"
                f" names, or into {ENV_SECRET}; rudder launch does so by itself"
            )
        text = _read(Path(path))
    secret = text.strip().encode()
    if len(secret) < _LEAST_BYTES:
        raise ConfigError(f"a secret of {len(secret)} bytes can be guessed: use `openssl rand -hex 32`")
    return secret


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError(f"{path} ({ENV_SECRET_FILE}) is no regular file")
            if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
                raise ConfigError(f"others may read {path} ({ENV_SECRET_FILE}): chmod 600 {path}, and own it")
            return file.read(_FILE_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise ConfigError(f"{path} ({ENV_SECRET_FILE}) cannot be read: {error.strerror}") from error
