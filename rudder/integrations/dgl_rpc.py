"""Serializes every DGL call of this process that may leave it, so that several threads may call DGL.

DGL's RPC client is one per process: one receive queue, one rank, one sequence counter, for all threads. A
call sends requests and then takes *the next messages that arrive* for its answers. Two calls at once steal
each other's answers (KeyError on a foreign sequence number, rows of the other call, or a wait for ever), so
`install()` puts one lock around every call that sends and receives. Rudder's threads need nothing else;
code that calls `rpc.send_request` and `rpc.recv_response` itself takes the lock around the pair: `with
dgl_rpc.lock: ...`.

What is wrapped (DGL 2.1): distributed sampling, in-subgraphs, edges and degrees (the three routines in
graph_services below them all), every method of KVClient that talks (DistTensor, DistGraph, node_split,
optimizers and embeddings go through it; pulls of this machine's own rows talk to nobody and are answered
without the lock), construction and unpickling of DistGraph, rpc's own compound
calls, and the process's start and end.

Barriers. A thread holds the lock while it waits for the other trainers: KVClient.barrier, DistTensor's
construction and deletion, client_barrier. This cannot make a deadlock that DGL alone would not have.
Suppose trainer A's main thread waits in a barrier and holds A's lock. It waits for B's main thread to
arrive. B's main thread may wait for B's lock, or for a thread of B that waits for it: the holder is in a
call that a DGL *server* answers. Servers are processes of their own that wait for no trainer outside of
barriers, so that call ends, and the lock goes to the waiters in turn. Or it may wait for a background
thread of A: only if such threads took part in barriers or in collectives between trainers, or served rows
to peers by calling DGL. Rudder's do not: **a background thread samples and pulls, and never enters a
barrier**. What does happen is that A's background threads stand still while A waits in a barrier; DGL's
scripts do that at the end of an epoch and when they create tensors.

Deleted tensors. DistTensor.__del__ is a barrier, too, and the garbage collector may run it anywhere: within
another call of the same thread, which the lock would let pass, or in a background thread. It is therefore
put off until the thread that runs into it holds the lock no longer, and it never runs on another thread
than the main one.

Sampler processes (DGL_NUM_SAMPLER) have an RPC client of their own and one thread: they need no lock, and
what they do is invisible here. A forked child gets a free lock (it must not use DGL's RPC anyway).

The FFI. DGL's compiled FFI (cython) and its ctypes one (DGL_FFI=ctypes) both release the GIL for the whole
call. Tried with either: while one thread is in a pull that a stopped server does not answer, another runs
Python (tests/distributed/test_rpc_threads.py asserts it). So the lock costs waiting, not standing still.
Lock and wrapper together take about 1 us where nobody else wants the lock.

An exception between a call's requests and its answers (Ctrl-C, a local error) leaves answers in the queue,
as in DGL alone: after it, the process's RPC client is not usable any more.
"""

from __future__ import annotations

import atexit
import collections
import functools
import os
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

from rudder.errors import ClosedError
from rudder.integrations.fair_lock import FairRLock
from rudder.integrations.import_hook import HOOK

lock = FairRLock()

# Every function of a module, and method of a class, that sends and then receives, or that sends.
_FUNCTIONS = {
    "dgl.distributed.graph_services": (
        "_distributed_access",
        "_distributed_edge_access",
        "_distributed_get_node_property",
    ),
    "dgl.distributed.rpc": (
        "send_request",
        "send_request_to_machine",
        "remote_call",
        "remote_call_to_machine",
        "client_barrier",
        "fast_pull",
    ),
    "dgl.distributed.role": ("init_role",),
    "dgl.distributed.dist_context": ("_shutdown_servers", "init_role"),
}
_METHODS = {
    "dgl.distributed.kvstore": (
        "KVClient",
        (
            "barrier",
            "register_push_handler",
            "register_pull_handler",
            "init_data",
            "delete_data",
            "map_shared_data",
            "push",
            "pull",
            "union",
            "count_nonzero",
        ),
    ),
    "dgl.distributed.dist_graph": ("DistGraph", ("__init__", "__setstate__")),
}
_MARK = "__rudder_serialized__"

_installed = False
_closed = False
_put_off: collections.deque[Callable[[], None]] = collections.deque()


def install() -> None:
    """Serialize DGL's calls from now on. Idempotent; works before and after `import dgl`, and imports
    neither dgl nor torch."""
    global _installed
    if _installed:
        return
    _installed = True
    os.register_at_fork(after_in_child=lock.reset)
    for name, functions in _FUNCTIONS.items():
        HOOK.after_import(name, functools.partial(_wrap_functions, functions))
    for name, (cls, methods) in _METHODS.items():
        HOOK.after_import(name, functools.partial(_wrap_methods, cls, methods))
    HOOK.after_import("dgl.distributed.kvstore", _pull_at_home)
    HOOK.after_import("dgl.distributed.dist_tensor", _put_off_deletions)
    HOOK.after_import("dgl.distributed.dist_context", _watch_life)
    HOOK.activate()


def run_put_off() -> None:
    """Delete the tensors whose deletion was put off. Called by itself when the main thread leaves a DGL
    call."""
    if threading.current_thread() is not threading.main_thread():
        return
    while _put_off and lock.depth == 0:
        _put_off.popleft()()


def _serialized(stock: Callable[..., Any]) -> Callable[..., Any]:
    if hasattr(stock, _MARK):
        return stock

    @functools.wraps(stock)
    def serialized(*args: Any, **kwargs: Any) -> Any:
        lock.acquire()
        try:
            if _closed:
                raise ClosedError(
                    f"DGL's RPC client of this process has been shut down; {stock.__name__} came too late"
                )
            return stock(*args, **kwargs)
        finally:
            lock.release()
            if _put_off:
                run_put_off()

    setattr(serialized, _MARK, True)
    return serialized


def _wrap_functions(names: tuple[str, ...], module: ModuleType) -> None:
    for name in names:
        _replace(module, name, _serialized(getattr(module, name)))


def _replace(module: ModuleType, name: str, new: Callable[..., Any]) -> None:
    """Put `new` where `name` is defined and, when DGL has been imported before, where its package handed it
    on."""
    stock = getattr(module, name)
    setattr(module, name, new)
    package = sys.modules.get("dgl.distributed")
    if package is not None and getattr(package, name, None) is stock:
        setattr(package, name, new)


def _wrap_methods(cls: str, names: tuple[str, ...], module: ModuleType) -> None:
    for name in names:
        owner = getattr(module, cls)
        setattr(owner, name, _serialized(getattr(owner, name)))


def _pull_at_home(kvstore: ModuleType) -> None:
    """Answer pulls of rows that all lie on this machine from its servers' shared memory, without the lock.

    Nothing is sent for them, in DGL neither. A trainer that pulls the labels of its own seeds would
    otherwise wait for each call that the sampling thread happens to be in.
    """
    serialized = kvstore.KVClient.pull

    @functools.wraps(serialized)
    def pull(self: Any, name: str, id_tensor: Any) -> Any:
        shard = self._data_store.get(name)
        stock_handler = self._pull_handlers.get(name) is kvstore.default_pull_handler
        if not _closed and shard is not None and stock_handler and id_tensor.dim() == 1 and len(id_tensor):
            policy = self._part_policy[name]
            if bool((policy.to_partid(id_tensor) == self._machine_id).all()):
                return shard[policy.to_local(id_tensor).long()]
        return serialized(self, name, id_tensor)

    kvstore.KVClient.pull = pull


def _put_off_deletions(dist_tensor: ModuleType) -> None:
    cls = dist_tensor.DistTensor
    stock = cls.__del__
    if hasattr(stock, _MARK):
        return

    def __del__(self: Any) -> None:  # noqa: N807
        if (
            not hasattr(self, "_owner") or self._persistent or not self._owner
        ):  # nothing to delete, or never finished
            return
        if lock.depth == 0 and threading.current_thread() is threading.main_thread():
            stock(self)
        else:
            # The object itself must not live on; what `__del__` needs of it can.
            kvstore, name = self.kvstore, self._name
            _put_off.append(lambda: _delete(dist_tensor, kvstore, name))

    setattr(__del__, _MARK, True)
    cls.__del__ = __del__


def _delete(dist_tensor: ModuleType, kvstore: Any, name: str) -> None:
    standalone = os.environ.get("DGL_DIST_MODE", "standalone") == "standalone"
    if standalone or dist_tensor.is_initialized():
        kvstore.delete_data(name)


def _watch_life(dist_context: ModuleType) -> None:
    """Serialize start and end, and refuse calls after the end: DGL's client would crash in them."""
    stock_initialize, stock_exit = dist_context.initialize, dist_context.exit_client
    if hasattr(stock_exit, _MARK):
        return

    @functools.wraps(stock_initialize)
    def initialize(*args: Any, **kwargs: Any) -> Any:
        global _closed
        # A server never returns from here, and has one thread.
        if os.environ.get("DGL_ROLE", "client") == "server":
            return stock_initialize(*args, **kwargs)
        with lock:
            _closed = False
            return stock_initialize(*args, **kwargs)

    @functools.wraps(stock_exit)
    def exit_client() -> None:
        global _closed
        run_put_off()
        with lock:
            stock_exit()
            _closed = True

    setattr(initialize, _MARK, True)
    setattr(exit_client, _MARK, True)
    _replace(dist_context, "initialize", initialize)
    _replace(dist_context, "exit_client", exit_client)
    if dist_context.is_initialized():  # DGL has registered its own for the end of the process
        atexit.unregister(stock_exit)
        atexit.register(exit_client)
