"""Every row of the traces' `expected.csv`: replay equals what an independent simulator counted."""

from __future__ import annotations

import csv
import functools
import re
from pathlib import Path

import numpy as np
import pytest

from rudder import _core

TRACES = Path(__file__).resolve().parents[4] / "shared" / "traces"
pytestmark = pytest.mark.skipif(
    not TRACES.is_dir(), reason=f"no traces at {TRACES} (an optional sibling of the repository)"
)

# Relative difference allowed, by policy. Ties may break differently, and priors are quantised to a byte.
EXACT = {"none", "MIN", "compulsory", "LRU", "FIFO", "LFU", "SIEVE"}
TOLERANCE = [
    (r"degree_prefill|vip|static_oracle|look\d+_(vip|lru)|tumb16_vip", 0.001),
    (r"S3FIFO|WTinyLFU", 0.01),
    (r"rudder_k\d+|massivegnn_.*", 0.02),
]
# Rows staged early and charged to the capacity minibatch by minibatch: replay has no such mode.
NOT_OFFERED = re.compile(r"look16_vip_D\d")


def expected() -> list[dict[str, str]]:
    """The rows of expected.csv; none where there is no such file."""
    path = TRACES / "expected.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if not NOT_OFFERED.fullmatch(row["policy"])]


class Trace:
    """A trace and its priors; rows below num_halo are the 1-hop halo."""

    def __init__(self, name: str) -> None:
        with np.load(TRACES / f"{name}.npz") as file:
            self.ids, self.offsets = file["ids"], file["offsets"]
            halo = np.arange(len(file["nodes"])) < int(file["num_halo"])
            self.vip = file["vip"].astype(np.float32)
            self.halo = halo.astype(np.float32)
            self.halo_degree = np.where(halo, file["degree"], 0).astype(np.float32)

    def by_falling_id(self) -> np.ndarray:
        """Each minibatch in falling order of ids: where recency ties, the simulator keeps the lower id."""
        minibatch = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        return self.ids[np.lexsort((-self.ids, minibatch))]


@functools.lru_cache(maxsize=1)  # the rows of a trace follow one another
def load(name: str) -> Trace:
    return Trace(name)


def run(trace: Trace, policy: str, capacity: int) -> tuple[int, int]:
    """Rows moved, and how many of them only to replace."""
    marks = {"MIN": _core.offline_optimum, "static_oracle": _core.static_oracle}
    if policy in marks:
        return marks[policy](trace.ids, trace.offsets, capacity), 0
    if policy == "compulsory":
        return _core.compulsory(trace.ids, trace.offsets), 0
    name, ids, settings = policy.lower(), trace.ids, {}
    if policy == "degree_prefill":
        name, settings = "static-degree", {"prior": trace.halo_degree, "prefill": True}
    elif policy == "vip":
        name, settings = "static-vip", {"prior": trace.vip}
    elif policy.startswith("rudder_k"):
        period = int(policy[len("rudder_k") :])
        name, settings = "score", {"prior": trace.halo, "period": period, "alpha": 0.05}
    elif policy.startswith("massivegnn"):
        name, settings = "score", {"prior": trace.halo_degree, "prefill": True, "period": 32, "alpha": 0.005}
    elif look := re.fullmatch(r"(look|tumb)(\d+)_(vip|lru)", policy):
        name = "lookahead"
        settings = {"window": int(look[2]), "tumbling": look[1] == "tumb"}
        if look[3] == "vip":
            settings["prior"] = trace.vip
        else:
            ids = trace.by_falling_id()
    answer = _core.replay(ids, trace.offsets, name, capacity, **settings)
    assert answer["rows_requested"] == len(trace.ids)
    assert answer["hits"] + answer["rows_moved"] - answer["replacement_rows"] == answer["rows_requested"]
    # What the buffer began with is moved, but replaced nothing.
    return answer["rows_moved"], answer["replacement_rows"] - (capacity if "prefill" in settings else 0)


@pytest.mark.parametrize(
    "row", expected(), ids=lambda row: f"{row['trace']}-{row['capacity_rows']}-{row['policy']}"
)
def test_rows_moved_as_expected(row: dict[str, str]) -> None:
    policy, wanted = row["policy"], int(row["rows_moved"])
    moved, replaced = run(load(row["trace"]), policy, int(row["capacity_rows"]))
    if policy in EXACT:
        assert moved == wanted
        return
    tolerance = next(limit for pattern, limit in TOLERANCE if re.fullmatch(pattern, policy))
    assert moved == pytest.approx(wanted, rel=tolerance)
    if row["of_which_replacement_fetches"]:
        assert moved - replaced == pytest.approx(
            wanted - int(row["of_which_replacement_fetches"]), rel=tolerance
        )


def test_default_policy_stays_near_the_optimum() -> None:
    """Lookahead of four buffers of requests: 1.05 x MIN in the median, 1.10 at worst."""
    times_min = []
    for row in expected():
        if row["policy"] != "MIN" or float(row["capacity_fraction"]) > 0.25:
            continue
        trace, capacity = load(row["trace"]), int(row["capacity_rows"])
        answer = _core.replay(
            trace.ids, trace.offsets, "lookahead", capacity, prior=trace.vip, window_rows=4 * capacity
        )
        assert answer["rows_moved"] <= answer["rows_requested"]
        times_min.append(answer["rows_moved"] / int(row["rows_moved"]))
    assert len(times_min) == 15
    assert np.median(times_min) <= 1.05
    assert max(times_min) <= 1.10
