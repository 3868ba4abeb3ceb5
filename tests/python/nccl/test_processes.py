"""Ranks in processes of their own, which end in every way that a process can."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest


def test_ranks_that_run_out_at_different_times(job: Any) -> None:
    ranks = [json.loads(line) for line in job(3, minibatches="3,7,0").said()]
    assert [rank["ended"] for rank in ranks] == ["well"] * 3
    assert [rank["drained"] for rank in ranks] == [5, 1, 8]
    assert sum(rank["rows_got"] for rank in ranks) == sum(rank["rows_served"] for rank in ranks) > 0


@pytest.mark.parametrize("death", ["hang", "error"])
def test_a_rank_that_is_killed_in_mid_transfer_is_named_by_all_others(job: Any, death: str) -> None:
    """Its peers wait in NCCL at that time: over NVLink it says nothing, over a network it may."""
    started = job(3, minibatches="20,20,20", fake_nccl_fault="die:1:6", fake_nccl_death=death)
    said = started.said()
    assert started.processes[1].returncode == -signal.SIGKILL
    for rank in (0, 2):
        ended = json.loads(said[rank])
        assert (ended["ended"], ended["part"]) == ("TransportError", 1), ended
        assert ended["seconds"] < 30  # long before the deadline of 60


def test_a_rank_that_is_killed_between_rounds_is_named_by_all_others(job: Any) -> None:
    said = job(3, minibatches="20,20,20", kill="2,4").said()
    for rank in (0, 1):
        ended = json.loads(said[rank])
        assert (ended["ended"], ended["part"]) == ("TransportError", 2), ended


def test_a_rank_that_stands_still_is_named_at_the_deadline(job: Any) -> None:
    """Stopped, not dead: its sockets are open, and it answers nothing."""
    started = job(2, minibatches="0,1000000", deadline_s="2")
    assert started.processes[1].stdout.readline() == "joined\n"
    started.processes[1].send_signal(signal.SIGSTOP)
    out, _ = started.processes[0].communicate(timeout=120)
    started.processes[1].kill()
    ended = json.loads(out.strip().splitlines()[-1])
    assert (ended["ended"], ended["part"]) == ("DeadlineError", 1), ended
