"""A trainer's share of its host's memory: wanted by a controller or by `rudder.agent.trade`, granted by the
board.

What is in force is always what the board has granted. A trainer shrinks its buffer first, and says so on the
board when the memory has gone back; it gets more on the board first, and grows its buffer then. Trouble with
the board costs the trades, not the training.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rudder.agent.evidence import Evidence
from rudder.agent.guard import Guard, Modelled
from rudder.agent.trade import PATIENCE, Member, Need, free_rows, need_of, trade, without_share
from rudder.config import ENV_SHARES
from rudder.errors import ConfigError, FormatError
from rudder.options import Options
from rudder.plan import BOUNDS, Plan
from rudder.policies import SCORE
from rudder.share_board import Board, BusyError

_log = logging.getLogger("rudder")
_LEAST, _MOST, _STEP = (int(bound) for bound in BOUNDS["share"])
#: Set by launchers, also torch's: the trainers of this host.
_ENV_TRAINERS = "LOCAL_WORLD_SIZE"


class Shares:
    """One table's. Used by one thread (the trainer's)."""

    def __init__(self, board: Board, own_rows: int) -> None:
        """Join. ``own_rows``: the trainer's own memory, in rows. Raises ConfigError, OSError, FormatError."""
        self._board, self._own = board, own_rows
        held = board.join(own_rows, self.rows(_LEAST))
        if held < self.rows(_LEAST):
            raise ConfigError(
                f"trainer {board.rank} cannot share memory: it is on {board.path} already, or others hold"
                " what it gave when it was there with more; attach one table of a name, and once"
            )
        #: Percent of its own memory that is in force, and that was wanted last; why, in words.
        self.share = self._below(held)
        self._wanted, self._why = self.share, ""
        # On the board.
        self._asked = self.share
        self._members: Mapping[int, Member] = {}
        self._need: Need | None = None
        self._rests = 0
        self._works = True
        self._giving = False

    @property
    def most_rows(self) -> int:
        """Rows that this trainer may ever hold."""
        return self.rows(_MOST)

    def rows(self, share: int) -> int:
        """Rows of a share."""
        return self._own * share // 100

    # -- at an interval's end, in this order

    def look(self, evidence: Evidence) -> None:
        """Say what memory is worth here, and see what it is worth elsewhere."""
        self._need = need_of(evidence) or self._need
        self._rests = max(0, self._rests - 1)
        self._publish()

    def asked(self, evidence: Evidence) -> Evidence:
        """What controllers of a name are asked: they know nothing of shares."""
        return without_share(evidence)

    def wanted(self) -> int:
        """The share that is best for all, as far as this trainer knows."""
        rank = self._board.rank
        if not self._works or rank not in self._members:
            return self.share
        share, self._why = trade(rank, self.share, self._members)
        if self.share < share <= 100 and self._waits_longest():
            self._rests = PATIENCE
        return share

    def review(self, guard: Guard, in_force: Plan, answer: Plan, shadow: Modelled) -> Plan:
        """As the guard says, who compares plans within the memory that there is: not shares."""
        within = _Within(shadow, in_force.share)
        plan = guard.review(in_force.but(share=100), answer.but(share=100), within)
        return plan.but(share=answer.share)

    def granted(self, wanted: int) -> int:
        """What of a wanted share may come into force, and is taken from now on."""
        self._wanted = wanted
        if wanted == self.share == self._asked:
            return wanted
        self._asked = wanted
        amounts = [self.rows(share) for share in range(wanted, min(self.share, wanted) - 1, -_STEP)]
        got = self._tried(lambda: self._board.take(amounts))
        share = min(wanted, self.share) if got is None else self._below(got)
        if share != self.share:
            self._need = None  # what it is worth now is another matter
        self._giving = self._giving or share < self.share
        self.share = share
        return share

    def applied(self, kept_rows: int) -> None:
        """The share is in force, and the trainer takes so many rows of memory still."""
        if self._giving:
            self._publish(kept_rows)

    def values(self) -> dict[str, Any]:
        """For the log of decisions."""
        others = {
            str(rank): [member.share, round(member.need.wait_ms, 4) if member.need is not None else None]
            for rank, member in self._members.items()
            if member.live
        }
        return {
            "wanted": self._wanted,
            "granted": self.share,
            "why": self._why,
            "free_rows": free_rows(self._members),
            "trainers": others,
        }

    def leave(self, kept_rows: int) -> None:
        """The table is closed. Where it keeps more than its own, that returns with the process's end."""
        if kept_rows <= self._own:
            self._tried(self._board.leave)
        self._works = False

    def _publish(self, kept_rows: int | None = None) -> None:
        target = self.rows(self.share)
        gone = kept_rows is not None and kept_rows <= target
        members = self._tried(
            lambda: self._board.publish(need=self._need, rests=self._rests, holds=target if gone else None)
        )
        if members is not None:
            self._members = members
            self._giving = self._giving and not gone

    def _waits_longest(self) -> bool:
        waits = {rank: each.need.wait_ms for rank, each in self._members.items() if each.live and each.need}
        return bool(waits) and waits.get(self._board.rank) == max(waits.values())

    def _below(self, rows: int) -> int:
        """The largest share of at most so many rows."""
        return max(each for each in range(_LEAST, _MOST + 1, _STEP) if self.rows(each) <= rows)

    def _tried(self, act: Any) -> Any:
        """What it returns; None where the board cannot be had now, or not any more."""
        if not self._works:
            return None
        try:
            return act()
        except BusyError:
            return None
        except (OSError, FormatError, KeyError) as error:
            self._works = False
            _log.warning("memory is no longer traded, and this trainer keeps what it has: %r", error)
            return None


class _Within:
    """A shadow that tries every plan with the memory of the share in force."""

    def __init__(self, shadow: Modelled, share: int) -> None:
        self._shadow, self._share = shadow, share
        self.live_ms, self.default_ms, self.steps = shadow.live_ms, shadow.default_ms, shadow.steps

    def counterfactuals(self, plans: Mapping[str, Plan], *, slower: float = 1.0) -> dict[str, float]:
        within = {name: plan.but(share=self._share) for name, plan in plans.items()}
        return self._shadow.counterfactuals(within, slower=slower)


def open_shares(tensor: str, options: Options, own_rows: int, *, steered: bool) -> Shares | None:
    """This table's place on its host's board; None where nobody wants to share, or, said in the log, there is
    nobody to share with.

    Raises ConfigError where memory cannot be shared.
    """
    if not options.share_memory:
        return None
    if not steered or options.policy == SCORE:
        raise ConfigError(
            "share_memory needs a controller that steers: controller='shadow', 'rule', 'agent' ..., and a"
            f" policy other than {SCORE!r}"
        )
    if options.device is not None:
        raise ConfigError("share_memory does not go with device='cuda': pinned memory cannot be given back")
    if os.environ.get(_ENV_TRAINERS, "1") == "1":
        _log.warning("share_memory: this host has one trainer (%s), so nothing is shared", _ENV_TRAINERS)
        return None
    folder = os.environ.get(ENV_SHARES)
    if not folder:
        raise ConfigError(
            f"share_memory: the host's trainers have no place in common; `rudder launch` makes one, elsewhere"
            f" {ENV_SHARES} names one: the beginning of file names, of this host and this job alone"
        )
    if own_rows * _STEP < 100:
        _log.warning("share_memory: a buffer of %d rows is too small to share", own_rows)
        return None
    name = re.sub(r"[^A-Za-z0-9_+-]+", "_", tensor)
    try:
        return Shares(Board(Path(f"{folder}.{name}"), options.rank), own_rows)
    except (OSError, FormatError) as error:
        raise ConfigError(f"share_memory: no board in {ENV_SHARES}={folder}: {error}") from error
