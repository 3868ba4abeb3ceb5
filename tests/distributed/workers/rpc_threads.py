"""A trainer whose two threads call DGL at once: one samples, the other pulls; every answer is checked.

Arguments: rounds, then "serialized" or "stock". The graph is `ring_parts` of conftest.py.
"""

import os
import signal
import sys
import threading
from pathlib import Path

import dgl
import numpy as np
import torch

from rudder.integrations import dgl_hosts, dgl_rpc

rounds, mode = int(sys.argv[1]), sys.argv[2]
if mode == "serialized":
    dgl_rpc.install()
dgl.distributed.initialize(None)
torch.distributed.init_process_group("gloo")
g = dgl.distributed.DistGraph("ring")
n = g.num_nodes()
orig = g.ndata["orig"][torch.arange(n)]
expected = torch.stack([orig * 3 + column for column in range(8)], 1)
feats = g.ndata["feats"]
assert torch.equal(feats[torch.arange(n)], expected)
errors: list[BaseException] = []
overlap = threading.Barrier(2)


def sample() -> None:
    rng = np.random.default_rng(1)
    for _ in range(rounds):
        seeds = torch.from_numpy(rng.choice(n, 64, replace=False))
        frontier = dgl.distributed.sample_neighbors(g, seeds, 2)
        src, dst = frontier.edges()
        counts = torch.bincount(dst, minlength=n)
        assert torch.equal(counts[seeds], torch.full((64,), 2)), "wrong number of neighbours"
        assert int(counts.sum()) == 128, "neighbours of nodes nobody asked for"
        assert bool(((orig[src] - orig[dst]) % n <= 5).all()), "edges that the graph does not have"


def pull() -> None:
    rng = np.random.default_rng(2)
    for i in range(rounds):
        ids = torch.from_numpy(rng.integers(0, n, 100))
        assert torch.equal(feats[ids], expected[ids]), "rows of other nodes"
        if i % 50 == 0:
            assert torch.equal(g.ndata["orig"][ids], orig[ids])
            assert torch.equal(g.in_degrees(ids), torch.full((100,), 5))


def run(work) -> None:
    try:
        overlap.wait()
        work()
    except BaseException as error:
        errors.append(error)


def python_runs_while_a_call_waits() -> None:
    """Stop the other host's server, let a thread wait for it in a pull, and count in Python meanwhile."""
    me, other = int(os.environ["RUDDER_HOST"]), 1 - int(os.environ["RUDDER_HOST"])
    remote = torch.nonzero(g.get_partition_book().nid2partid(torch.arange(n)) == other).flatten()[:10]
    server = next(pid for pid in os.listdir("/proc") if pid.isdigit() and _is_server(pid, other))
    assert me == 0
    os.kill(int(server), signal.SIGSTOP)
    answered = threading.Event()

    def wait_for_rows() -> None:
        assert torch.equal(feats[remote], expected[remote])
        answered.set()

    thread = threading.Thread(target=wait_for_rows)
    thread.start()
    while dgl_rpc.lock._owner != thread.ident:
        pass
    total = sum(
        range(1_000_000)
    )  # many times the interpreter's switch interval: the waiting call holds no GIL
    assert total == 499999500000
    assert not answered.is_set()
    os.kill(int(server), signal.SIGCONT)
    thread.join()
    assert answered.is_set()
    print("python ran while a call waited", flush=True)


def _is_server(pid: str, host: int) -> bool:
    try:
        environ = Path("/proc", pid, "environ").read_bytes().split(b"\0")
    except OSError:
        return False
    mark = f"RUDDER_JOB={os.environ['RUDDER_JOB']}".encode()
    return mark in environ and b"DGL_ROLE=server" in environ and f"RUDDER_HOST={host}".encode() in environ


def the_other_hosts_rows_are_in_its_segment() -> None:
    other = 1 - int(os.environ["RUDDER_HOST"])
    assert dgl_hosts.local_hosts() == [0, 1]
    name = dgl_hosts.kvdata_segment(other, feats.kvstore_key)
    owned = torch.nonzero(g.get_partition_book().nid2partid(torch.arange(n)) == other).flatten()
    segment = np.fromfile(f"/dev/shm{name}", dtype=np.int64, count=len(owned) * 8).reshape(-1, 8)
    assert np.array_equal(segment, expected[owned].numpy())


the_other_hosts_rows_are_in_its_segment()
thread = threading.Thread(target=run, args=(sample,), daemon=True)
thread.start()
run(pull)
thread.join(60)
if thread.is_alive():
    raise SystemExit("the sampling thread waits for an answer that another call took")
if errors:
    raise errors[0]
g.barrier()
if mode == "serialized" and g.rank() == 0 and int(os.environ["RUDDER_HOST"]) == 0:
    python_runs_while_a_call_waits()
g.barrier()
print(f"{rounds} rounds right", flush=True)
