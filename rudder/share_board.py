"""The board of a host: which of its trainers holds how much memory, in one small file that they all write.

**Invariant**: at any moment, what members hold adds up to no more than what they brought. So `holds` is never
less than what a trainer really takes: it is raised before a buffer grows, and lowered after memory went back.

One process at a time reads and writes, under a lock that goes with its process. A member whose process is
gone holds no more than its own: what it had taken is free again. The file is replaced as a whole, so that
whoever is killed in between leaves the old one. It lies in the job's folder, and goes with that.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rudder.agent.trade import Member, Need, free_rows
from rudder.errors import FormatError

#: Changes that the board remembers, newest last.
REMEMBERED = 64
_SCHEMA = 1
# Locks are held for less than a millisecond. A trainer that is stopped in between costs the others this much
# time at a boundary, and no more than their trade; whoever joins, leaves or looks on has more.
_PATIENCE_S, _LONG_PATIENCE_S = 0.02, 5.0
_PAUSE_S = 0.0005
# Of this process: the file's lock knows of processes alone.
_here = threading.Lock()


class BusyError(OSError):
    """Another trainer has the board for too long; try again later."""


class Board:
    """One trainer's access to it. Methods raise OSError (`BusyError` among them) and FormatError."""

    def __init__(self, path: Path, rank: int) -> None:
        """``path``: the same for all trainers of the host, in a folder that exists."""
        self.path, self.rank = path, rank

    def join(self, own: int, least: int) -> int:
        """Become a member with so many rows of one's own; returns those that may be held now.

        These are fewer than ``own`` only where this trainer was here before with more, and others hold what
        it had given. Fewer than ``least``: it is no member.
        """
        with self._locked(_LONG_PATIENCE_S):
            board = self._read()
            earlier = board.pop(self.rank, None)
            if earlier is not None and earlier.live:
                return 0
            holds = min(own, own + free_rows(board))
            if holds >= least:
                board[self.rank] = Member(own, holds, holds)
                self._write(board, self.rank, 0)
            return holds

    def members(self) -> dict[int, Member]:
        """As the board has them, those that are gone with what they hold then. For whoever looks on."""
        with self._locked(_LONG_PATIENCE_S):
            return self._read()

    def publish(self, *, need: Need | None, rests: int = 0, holds: int | None = None) -> dict[int, Member]:
        """Say what memory is worth here, and what one holds after giving up some.

        REQUIRES that ``holds`` is no more than before: `take` gets more. Returns all members.
        """
        with self._locked(_PATIENCE_S):
            board = self._read()
            before = board[self.rank]
            kept = before.holds if holds is None else holds
            board[self.rank] = replace(before, need=need, rests=rests, holds=kept)
            self._write(board, self.rank, before.holds)
            return board

    def take(self, amounts: Sequence[int]) -> int:
        """Ask for the first of these amounts of rows; returns the first that may be held, of now on.

        They are in descending order. What is held already may be, and stays until `publish` says less.
        """
        with self._locked(_PATIENCE_S):
            board = self._read()
            before = board[self.rank]
            most = before.holds + free_rows(board)
            granted = next((rows for rows in amounts if rows <= max(most, before.holds)), before.holds)
            holds = max(granted, before.holds)
            # What memory is worth with more of it is not known yet.
            need = before.need if holds == before.holds else None
            board[self.rank] = replace(before, holds=holds, wants=amounts[0], need=need)
            self._write(board, self.rank, before.holds)
            return granted

    def leave(self) -> None:
        """Hold no more than one's own. REQUIRES that no more is taken."""
        with self._locked(_LONG_PATIENCE_S):
            board = self._read()
            before = board[self.rank]
            board[self.rank] = _gone(before)
            self._write(board, self.rank, before.holds)

    def changes(self) -> list[list[int]]:
        """The last changes: number, rank, rows held before and after, by all then, and brought by all."""
        with self._locked(_LONG_PATIENCE_S):
            found: list[list[int]] = self._load()["changes"]
            return found

    def _read(self) -> dict[int, Member]:
        """All members, those whose process is gone without what they had taken."""
        board = {}
        for rank, values in self._load()["members"].items():
            need = values.pop("need")
            process = values.pop("process")
            member = Member(**values, need=Need(**need) if need is not None else None)
            alive = member.live and birth(process[0]) == process[1]
            board[int(rank)] = member if alive else _gone(member)
        return board

    def _load(self) -> dict[str, Any]:
        try:
            values = json.loads(self.path.read_text(encoding="utf-8"))
            if values["schema"] != _SCHEMA:
                raise ValueError(f"it is of schema {values['schema']!r}")
        except FileNotFoundError:
            return {"schema": _SCHEMA, "members": {}, "changes": []}
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"{self.path} is no board of shares: {error!r}") from error
        return values  # type: ignore[no-any-return]

    def _write(self, board: dict[int, Member], rank: int, before: int) -> None:
        old = self._load()
        members, changes = old["members"], old["changes"]
        processes = {int(other): values["process"] for other, values in members.items()}
        processes[self.rank] = [os.getpid(), birth(os.getpid())]
        held = sum(member.holds for member in board.values())
        owned = sum(member.own for member in board.values())
        after = board[rank].holds
        if after != before:
            number = changes[-1][0] + 1 if changes else 1
            changes.append([number, rank, before, after, held, owned])
        values = {
            "schema": _SCHEMA,
            "members": {
                str(other): {**asdict(member), "process": processes[other]} for other, member in board.items()
            },
            "changes": changes[-REMEMBERED:],
        }
        draft = self.path.with_name(f"{self.path.name}.new")
        draft.write_text(json.dumps(values), encoding="utf-8")
        draft.replace(self.path)

    @contextlib.contextmanager
    def _locked(self, patience: float) -> Iterator[None]:
        until = time.monotonic() + patience
        if not _here.acquire(timeout=patience):
            raise BusyError(f"{self.path} is in use by another thread")
        try:
            # A record lock: forked children do not have it, so that none outlives its trainer.
            descriptor = os.open(self.path.with_name(f"{self.path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
            try:
                while not _try_lock(descriptor):
                    if time.monotonic() >= until:
                        raise BusyError(f"{self.path} is in use by another trainer")
                    time.sleep(_PAUSE_S)
                yield
            finally:
                os.close(descriptor)
        finally:
            _here.release()


def birth(pid: int) -> str:
    """What tells a process from a later one of its number; "": it has ended."""
    try:
        stat = Path("/proc", str(pid), "stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _gone(member: Member) -> Member:
    holds = min(member.holds, member.own)
    return Member(member.own, holds, holds, live=False)
