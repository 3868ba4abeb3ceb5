"""Orderly ends: everything with threads is closed before the interpreter, or DGL's connections, go away.

Callbacks at exit run in reverse order of registration. Ours is registered anew whenever something is
opened, so it runs before those of libraries that were initialised earlier (DGL's tells the servers to go).
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import sys
import threading
import time
import weakref
from collections.abc import Iterable
from typing import Protocol


class Closable(Protocol):
    """Something to close at exit; `close` must be idempotent."""

    def close(self) -> None:
        """Stop threads and let go of resources."""
        ...


_lock = threading.Lock()
# Loaders are closed before the tables that they feed.
_loaders: weakref.WeakSet[Closable] = weakref.WeakSet()
_tables: weakref.WeakSet[Closable] = weakref.WeakSet()
# What tables fetch by; closed last.
_connections: weakref.WeakSet[Closable] = weakref.WeakSet()
_failed = False


def register_loader(loader: Closable) -> None:
    """Close ``loader`` at exit, if it still lives."""
    _register(_loaders, loader)


def register_table(table: Closable) -> None:
    """Close ``table`` at exit, after all loaders, if it still lives."""
    _register(_tables, table)


def register_connection(connection: Closable) -> None:
    """Close ``connection`` at exit, after all tables, if it still lives."""
    _register(_connections, connection)


def close_all() -> None:
    """Close every loader, table and connection that is still open."""
    with _lock:
        doomed = [*_loaders, *_tables, *_connections]
    _close(doomed)


def close_failed(seconds: float) -> None:
    """Close everything as failed, for a process that is about to leave without running its exit functions.

    Takes at most ``seconds``: what hangs (a sampler whose peer is gone, say) is left behind, and a loader
    that does not keep the tables from writing their last metrics.
    """
    global _failed
    _failed = True
    with _lock:
        kinds = [list(_loaders), list(_tables), list(_connections)]
    for doomed in kinds:
        until = time.monotonic() + seconds / len(kinds)
        # One thread each: no table waits for another.
        threads = [threading.Thread(target=_close, args=([item],), daemon=True) for item in doomed]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))


def failing() -> bool:
    """Is the process ending because of an exception that nobody caught?"""
    return _failed or getattr(sys, "last_value", None) is not None


def _leave_to_parent() -> None:
    """In a forked child: what was open is the parent's, whose threads are not here."""
    global _lock
    _lock = threading.Lock()
    for kind in (_loaders, _tables, _connections):
        for item in kind:
            # Its end would wait for threads that only the parent has: it lives as long as the child.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(item))
        kind.clear()


os.register_at_fork(after_in_child=_leave_to_parent)


def _close(doomed: Iterable[Closable]) -> None:
    for item in doomed:
        # One that fails must not keep the others open, nor DGL's own end from running.
        with contextlib.suppress(Exception):
            item.close()


def _register(where: weakref.WeakSet[Closable], item: Closable) -> None:
    with _lock:
        where.add(item)
        atexit.unregister(close_all)
        atexit.register(close_all)
