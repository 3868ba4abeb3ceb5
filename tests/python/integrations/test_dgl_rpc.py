"""dgl_rpc on modules that only look like DGL's: what is serialized, put off and refused."""

from __future__ import annotations

import threading
import types

import pytest

from rudder.errors import ClosedError
from rudder.integrations import dgl_rpc


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    monkeypatch.setattr(dgl_rpc, "_closed", False)
    monkeypatch.setenv("DGL_DIST_MODE", "distributed")
    monkeypatch.delenv("DGL_ROLE", raising=False)
    yield
    dgl_rpc._put_off.clear()
    assert dgl_rpc.lock._owner is None


def _in_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


class _Store:
    def __init__(self):
        self.deleted = []

    def delete_data(self, name):
        assert dgl_rpc.lock.depth == 0
        self.deleted.append((name, threading.current_thread() is threading.main_thread()))


@pytest.fixture
def tensors():
    """A module with a DistTensor whose deletion is put off, and the store that it talks to."""
    store = _Store()
    module = types.ModuleType("dist_tensor")

    class DistTensor:
        def __init__(self, name, persistent=False):
            self.kvstore, self._name, self._owner, self._persistent = store, name, True, persistent

        def __del__(self):
            self.kvstore.delete_data(self._name)

    module.DistTensor = DistTensor
    module.is_initialized = lambda: True
    dgl_rpc._put_off_deletions(module)
    return module, store


def test_calls_hold_the_lock_and_give_it_back():
    depths = []
    call = dgl_rpc._serialized(lambda: depths.append(dgl_rpc.lock.depth))
    call()
    assert depths == [1]
    assert dgl_rpc._serialized(call) is call

    def fail():
        raise KeyError(1)

    with pytest.raises(KeyError):
        dgl_rpc._serialized(fail)()
    assert dgl_rpc.lock.depth == 0


def test_wrapped_names_are_replaced_in_the_package_too(monkeypatch):
    module, package = types.ModuleType("rpc"), types.ModuleType("dgl.distributed")
    module.remote_call = package.remote_call = lambda: None
    monkeypatch.setitem(__import__("sys").modules, "dgl.distributed", package)
    dgl_rpc._wrap_functions(("remote_call",), module)
    assert package.remote_call is module.remote_call
    assert hasattr(package.remote_call, dgl_rpc._MARK)


def test_deletion_outside_of_calls_is_immediate(tensors):
    module, store = tensors
    tensor = module.DistTensor("a")
    del tensor
    assert store.deleted == [("a", True)]


def test_deletion_within_a_call_waits_for_its_end(tensors):
    module, store = tensors
    kept = [module.DistTensor("a")]

    def call():
        kept.clear()
        assert store.deleted == []

    dgl_rpc._serialized(lambda: dgl_rpc._serialized(call)())()
    assert store.deleted == [("a", True)]


def test_deletion_on_another_thread_waits_for_the_main_one(tensors):
    module, store = tensors
    kept = [module.DistTensor("a")]
    _in_thread(kept.clear)
    _in_thread(dgl_rpc._serialized(lambda: None))
    assert store.deleted == []
    dgl_rpc._serialized(lambda: None)()
    assert store.deleted == [("a", True)]


def test_persistent_and_half_made_tensors_are_not_deleted(tensors):
    module, store = tensors
    tensor = module.DistTensor("a", persistent=True)
    del tensor
    half = module.DistTensor.__new__(module.DistTensor)
    del half
    assert store.deleted == []


def test_calls_after_the_end_are_refused():
    module = types.ModuleType("dist_context")
    module.initialize = lambda: "initialized"
    ends = []
    module.exit_client = lambda: ends.append(dgl_rpc.lock.depth)
    module.is_initialized = lambda: False
    dgl_rpc._watch_life(module)
    call = dgl_rpc._serialized(lambda: "answer")
    assert module.initialize() == "initialized"
    assert call() == "answer"
    module.exit_client()
    assert ends == [1]
    with pytest.raises(ClosedError):
        call()
    module.initialize()
    assert call() == "answer"


def test_rows_of_this_machine_are_pulled_without_the_lock():
    torch = pytest.importorskip("torch")
    depths = []

    class Policy:
        def to_partid(self, ids):
            return ids // 10

        def to_local(self, ids):
            return ids % 10

    class KVClient:
        _machine_id = 1

        def pull(self, name, id_tensor):
            depths.append(dgl_rpc.lock.depth)
            return "stock"

    module = types.ModuleType("kvstore")
    module.KVClient, module.default_pull_handler = KVClient, object()
    dgl_rpc._wrap_methods("KVClient", ("pull",), module)
    dgl_rpc._pull_at_home(module)
    client = KVClient()
    client._data_store = {"labels": torch.arange(100, 110), "computed": torch.arange(10)}
    client._part_policy = {"labels": Policy(), "computed": Policy()}
    client._pull_handlers = {"labels": module.default_pull_handler, "computed": object()}

    got = []
    with dgl_rpc.lock:  # the sampling thread is in a call
        _in_thread(lambda: got.append(client.pull("labels", torch.tensor([13, 10, 13]))))
    assert got[0].tolist() == [103, 100, 103]
    assert depths == []
    # Rows elsewhere, no rows, rows that a handler computes and a client that was shut down: as in DGL.
    assert client.pull("labels", torch.tensor([13, 20])) == "stock"
    assert client.pull("labels", torch.tensor([], dtype=torch.int64)) == "stock"
    assert client.pull("computed", torch.tensor([13])) == "stock"
    assert depths == [1, 1, 1]
