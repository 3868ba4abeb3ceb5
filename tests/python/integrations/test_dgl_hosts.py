"""Names in shared memory per job and host; nothing changes outside of a launched job."""

from __future__ import annotations

import types

import pytest

from rudder.integrations import dgl_hosts
from rudder.integrations.import_hook import ImportHook


@pytest.fixture
def job(monkeypatch):
    monkeypatch.setenv("RUDDER_JOB", "J")
    monkeypatch.setenv("RUDDER_HOST", "1")
    monkeypatch.setenv("RUDDER_LOCAL_HOSTS", "0,1")


def test_outside_of_a_job(monkeypatch):
    monkeypatch.delenv("RUDDER_JOB", raising=False)
    assert dgl_hosts.segment_name(3, "/g_node_meta") == "/g_node_meta"
    assert dgl_hosts.local_hosts() == []
    assert dgl_hosts.this_host() is None
    hook = ImportHook()
    dgl_hosts.install(hook)
    assert not hook._patches


def test_names_and_hosts_of_a_job(job):
    assert dgl_hosts.segment_name(0, "/g_node_meta") == "/rudder.J.h0.g_node_meta"
    assert dgl_hosts.kvdata_segment(1, "node~_N~features") == "/rudder.J.h1.node~_N~features-kvdata-"
    assert dgl_hosts.local_hosts() == [0, 1]
    assert dgl_hosts.this_host() == 1


def test_dgl_functions_get_this_hosts_names(job):
    calls = []
    module = types.ModuleType("ndarray")
    module.empty_shared_mem = lambda name, create, shape, dtype: calls.append((name, create, shape, dtype))
    dgl_hosts._wrap_names("empty_shared_mem")(module)
    module.empty_shared_mem("/g_node_meta", True, (7,), "int64")
    # No slash: DGL builds names of a graph's arrays by joining this one to itself.
    assert calls == [("rudder.J.h1.g_node_meta", True, (7,), "int64")]


def test_machine_id_is_the_hosts_number(job):
    module = types.ModuleType("rpc_client")
    dgl_hosts._place_client(module)
    assert module.get_local_machine_id({0: [0, "127.0.0.1", 30050, 1]}) == 1
