"""The folder that partitions are written to: never half written, never somebody else's files."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rudder.errors import ConfigError
from rudder.vip.layout import read_part_config

PART_FOLDER = re.compile(r"part\d+")


@contextmanager
def make_room(out_dir: Path, *, force: bool) -> Iterator[Path]:
    """A staging folder inside `out_dir`, removed afterwards, whatever happens.

    Raises ConfigError where out_dir is a file, or is not empty and `force` is not given.
    """
    if out_dir.exists() and not out_dir.is_dir():
        raise ConfigError(f"{out_dir} is a file; give a folder for the partitions")
    if out_dir.is_dir() and any(out_dir.iterdir()) and not force:
        raise ConfigError(
            f"{out_dir} is not empty; give another folder, or force to replace the partitions in it"
        )
    made = not out_dir.exists()
    out_dir.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".partitioning-", dir=out_dir))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if made and not any(out_dir.iterdir()):
            out_dir.rmdir()


def move_into(staging: Path, out_dir: Path) -> None:
    """Replace the partitions in `out_dir` by those in `staging`.

    A part config goes first and comes last, so that what one names is there.
    """
    for path in out_dir.glob("*.json"):
        if _is_part_config(path):
            path.unlink()
    for path in out_dir.iterdir():
        if path.is_dir() and PART_FOLDER.fullmatch(path.name):
            shutil.rmtree(path)
    for path in sorted(staging.iterdir(), key=lambda path: path.is_file()):
        path.replace(out_dir / path.name)


def _is_part_config(path: Path) -> bool:
    try:
        return "part-0" in read_part_config(path)
    except ValueError:
        return False
