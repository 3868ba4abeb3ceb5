"""What every `--plot` needs before the work begins."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from rudder.errors import ConfigError


def check(path: Path) -> None:
    """Raise ConfigError where a picture could not be written to ``path`` (.png, .pdf or .svg)."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("--plot needs matplotlib: pip install matplotlib")
    if path.suffix not in (".png", ".pdf", ".svg"):
        raise ConfigError(f"--plot {path}: name a .png, .pdf or .svg file")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--plot {path}: there is no folder {path.absolute().parent}")
