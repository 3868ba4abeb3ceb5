"""Several DistDGL hosts on one machine, and names in shared memory that belong to one job.

DGL takes a machine for one host: servers find their number by the machine's addresses, and names such as
`graph_node_meta` in shared memory carry neither job nor host. `rudder launch` gives every process two
variables, and the import hook adapts DGL:

    RUDDER_JOB          the job's id; absent outside of `rudder launch`, and then nothing here changes
    anything
    RUDDER_HOST         this process's host number = DGL's machine id = the number of its partition
    RUDDER_LOCAL_HOSTS  comma-separated numbers of the job's hosts whose shared memory this process can open

Every array that DGL puts into shared memory is then named `rudder.<job>.h<host>.<DGL's own name>`: jobs
beside each other do not meet, hosts of a job do not meet, and what a killed job leaves behind can be told
apart and removed.

The feature shard of partition p is in `kvdata_segment(p, tensor.kvstore_key)`, row-major, in order of local
row number.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

from rudder.integrations.import_hook import ImportHook

PREFIX = "rudder."


def active() -> bool:
    """Whether this process belongs to a job of `rudder launch`."""
    return "RUDDER_JOB" in os.environ


def this_host() -> int | None:
    """This process's host number within the job; None outside of `rudder launch`."""
    return int(os.environ["RUDDER_HOST"]) if active() else None


def local_hosts() -> list[int]:
    """Hosts of the job whose shared memory this process can open, its own included; [] outside of `rudder
    launch`."""
    return (
        [int(host) for host in os.environ.get("RUDDER_LOCAL_HOSTS", "").split(",") if host]
        if active()
        else []
    )


def segment_name(host: int, base: str) -> str:
    """POSIX name, as `shm_open` spells it ("/..."), of the array that DGL calls `base` on virtual host
    `host`.

    Outside of `rudder launch` DGL's names are used unchanged, and `host` is not looked at.
    """
    bare = base.lstrip("/")
    if not active():
        return f"/{bare}"
    return f"/{PREFIX}{os.environ['RUDDER_JOB']}.h{host}.{bare}"


def kvdata_segment(host: int, kvstore_key: str) -> str:
    """POSIX name of the rows of a DistTensor (`tensor.kvstore_key`) that partition `host` owns."""
    return segment_name(host, f"{kvstore_key}-kvdata-")


def install(hook: ImportHook) -> None:
    """Register the adaptation; a no-op outside of `rudder launch`."""
    if not active():
        return
    # The order matters: DGL's modules import these functions by name, so each is replaced where it is
    # defined, first of all.
    hook.after_import("dgl._ffi.ndarray", _wrap_names("empty_shared_mem"))
    hook.after_import("dgl.ndarray", _wrap_names("exist_shared_mem_array"))
    hook.after_import("dgl.heterograph_index", _wrap_heterograph_index)
    hook.after_import("dgl.distributed.rpc_client", _place_client)


def _own(base: str) -> str:
    # DGL makes the names of a graph's arrays by repeating the graph's name: a slash of ours would land in
    # the middle.
    return segment_name(int(os.environ["RUDDER_HOST"]), base).lstrip("/")


def _wrap_names(function: str) -> Any:
    def patch(module: ModuleType) -> None:
        stock = getattr(module, function)

        def named(name: str, *args: Any, **kwargs: Any) -> Any:
            return stock(_own(name), *args, **kwargs)

        named.__doc__ = stock.__doc__
        setattr(module, function, named)

    return patch


def _wrap_heterograph_index(module: ModuleType) -> None:
    _wrap_names("create_heterograph_from_shared_memory")(module)
    stock = module.HeteroGraphIndex.shared_memory

    def shared_memory(self: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        return stock(self, _own(name), *args, **kwargs)

    shared_memory.__doc__ = stock.__doc__
    module.HeteroGraphIndex.shared_memory = shared_memory


def _place_client(rpc_client: ModuleType) -> None:
    """Machine ids come from the launcher: on one machine every address is everybody's, and clusters have
    hosts behind NAT."""

    def get_local_machine_id(server_namebook: dict[int, list[Any]]) -> int:
        return int(os.environ["RUDDER_HOST"])

    vars(rpc_client)["get_local_machine_id"] = get_local_machine_id
