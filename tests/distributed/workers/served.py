"""A DistDGL trainer whose remote rows come from feature servers; arguments: what it expects, a JSON object.

Trainer 0 reads rows of partition 1, says so, and waits until the file `go` is there: then the test has done
something to the feature server of that partition.
"""

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import rudder  # isort: split

import dgl
import torch

from rudder.errors import TransportError
from rudder.serve.places import places_of_job

scenario = sys.argv[1]
given: dict[str, Any] = json.loads(sys.argv[2])
ids = torch.arange(600)


def wait_for(name: str) -> None:
    path = Path(given["folder"], name)
    while not path.exists():
        time.sleep(0.02)


def right(g: Any, rows: torch.Tensor) -> bool:
    """Node i of the ring has 3 i + c in column c, and `orig` tells i; here every row is read."""
    assert len(rows) == len(ids)
    return torch.equal(rows, expected)


def fails(feats: Any) -> None:
    """One read, which must end in an error that names the partition and ids of it, in time."""
    began = time.monotonic()
    with pytest.raises(TransportError) as caught:
        feats[ids]
    first = g.get_partition_book().partid2nids(1)
    assert caught.value.part == 1
    assert caught.value.place == place
    assert f"rows of partition 1 could not be fetched: ucx from {place}" in str(caught.value)
    assert caught.value.ids
    assert set(caught.value.ids) <= set(first.tolist())
    assert time.monotonic() - began < given["within"]
    print(f"typed: {caught.value}", flush=True)


def falls_back() -> None:
    """The rows go on coming, by the next transport."""
    for _ in range(10):
        assert right(g, feats[ids])
    state = feats.route_state()[1]
    assert (state["transport"], state["fallback"]) == ("kvstore", True), state
    assert f"ucx from {place}" in state["why"], state
    stock = feats.prefetcher.source.places
    assert len({*stock, place}) == 3
    assert all(re.fullmatch(r"[\d.]+:\d+", each) for each in stock), stock
    print(f"fell back: {state['why']}", flush=True)


def ends() -> None:
    """No other transport: a typed error, at once and again."""
    fails(feats)
    fails(feats)


def returns() -> None:
    """A typed error while the server is away, right rows when it is back."""
    fails(feats)
    print("away", flush=True)
    wait_for("back")
    until = time.monotonic() + 90
    while True:
        try:
            rows = feats[ids]
        except TransportError:
            assert time.monotonic() < until
            continue
        assert right(g, rows)
        return


def climbs_back() -> None:
    """The next transport while the server is away, the better one again when it is back."""
    assert right(g, feats[ids])
    assert feats.route_state()[1]["transport"] == "kvstore"
    print("away", flush=True)
    wait_for("back")
    until = time.monotonic() + 90
    while feats.route_state()[1]["transport"] != "ucx":
        assert time.monotonic() < until
        assert right(g, feats[ids])
    assert right(g, feats[ids])


def is_refused() -> None:
    """Without the job's secret no rows come by ucx; a ladder has the next transport."""
    assert feats.route_state()[1]["transport"] == "kvstore"
    with pytest.raises(TransportError, match="the secret is not that of its job"):
        rudder.attach(g, "feats", transport="ucx", prior="none")


dgl.distributed.initialize("the launcher knows better")
torch.distributed.init_process_group("gloo")
g = dgl.distributed.DistGraph("ring")
place = "{}:{}".format(*places_of_job()[1])
expected = torch.stack([g.ndata["orig"][ids] * 3 + column for column in range(8)], 1)
if scenario == "is_refused":
    os.environ["RUDDER_SECRET"] = "not the secret of this job"
feats = rudder.attach(g, "feats", capacity=0, prior="none", **given["options"])
assert right(g, feats[ids])
torch.distributed.barrier()  # whatever the test does to a server or a link, all trainers have started before
if g.rank() == 0:
    print(f"served by {feats.route_state()[1]['transport']}", flush=True)
    wait_for("go")
    globals()[scenario]()
    print("as expected", flush=True)
torch.distributed.barrier()
