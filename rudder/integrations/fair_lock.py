"""A re-entrant lock that serves its waiters in the order in which they came."""

from __future__ import annotations

import collections
import threading
from types import TracebackType


class FairRLock:
    """Re-entrant and first come, first served.

    `threading.RLock` lets the thread that just released it take it again before a waiter wakes up: a
    sampler thread that makes one call after another would keep the trainer's own pull waiting for many of
    them.

    Invariants: the lock has an owner or no waiters; `_mutex` is held for a few instructions only, never
    while waiting.
    """

    def __init__(self) -> None:
        """Free, without waiters."""
        self._mutex = threading.Lock()
        self._owner: int | None = None
        self._depth = 0
        self._waiters: collections.deque[tuple[int, threading.Lock]] = collections.deque()

    @property
    def depth(self) -> int:
        """How often the calling thread has taken the lock; 0 where it does not hold it."""
        return self._depth if self._owner == threading.get_ident() else 0

    def acquire(self) -> None:
        """Take the lock, after everybody who asked before."""
        me = threading.get_ident()
        if self._owner == me:  # only this thread can make that true or false
            self._depth += 1
            return
        with self._mutex:
            if self._owner is None:
                self._owner, self._depth = me, 1
                return
            gate = threading.Lock()
            gate.acquire()
            self._waiters.append((me, gate))
        try:
            gate.acquire()  # opened by the release that makes this thread the owner
        except BaseException:  # Ctrl-C while waiting
            with self._mutex:
                if self._owner == me:
                    self._hand_over()
                else:
                    self._waiters.remove((me, gate))
            raise

    def release(self) -> None:
        """Undo one `acquire` of this thread. Raises RuntimeError where there was none."""
        if self._owner != threading.get_ident():
            raise RuntimeError("released by a thread that does not hold the lock")
        if self._depth > 1:
            self._depth -= 1
            return
        with self._mutex:
            self._hand_over()

    def reset(self) -> None:
        """Make it free whatever its state: for a forked child, in which no other thread exists."""
        FairRLock.__init__(self)

    def _hand_over(self) -> None:
        if self._waiters:
            self._owner, gate = self._waiters.popleft()
            self._depth = 1
            gate.release()
        else:
            self._owner, self._depth = None, 0

    def __enter__(self) -> None:
        """`with lock:`."""
        self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release, whatever happened."""
        self.release()
