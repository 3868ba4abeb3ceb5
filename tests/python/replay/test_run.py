"""Replay of small traces: every number can be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rudder.errors import ConfigError, FormatError
from rudder.replay import Request, Window, find_traces, load_case, replay_case, replay_files
from rudder.replay.cost import Costs
from rudder.replay.trainers import replay_trainers

SaveTrace = Callable[..., Path]

# With two rows of buffer: LRU throws 0 and 1 out for 2 and 3, MIN does not.
PAIRS = [[0, 1], [0, 1], [2, 3], [0, 1]]


def rows_of(path: Path, **request: Any) -> dict[str, int]:
    """Rows moved by policy."""
    return {each.policy: each.rows_moved for each in replay_case(load_case(path), Request(**request))}


def test_rows_moved_and_what_follows_from_them(save_trace: SaveTrace) -> None:
    request = Request(policies=("none", "lru", "lookahead", "min", "compulsory"), capacities=("2",))
    found = {each.policy: each for each in replay_case(load_case(save_trace(PAIRS)), request)}
    assert {name: each.rows_moved for name, each in found.items()} == {
        "none": 8,
        "lru": 6,
        "lookahead": 4,
        "min": 4,
        "compulsory": 4,
    }
    lru = found["lru"]
    assert (lru.rows_requested, lru.min_rows, lru.times_min, lru.times_none) == (8, 4, 1.5, 0.75)
    assert (lru.hit_rate, lru.gap_left, lru.window) == (0.25, 0.5, None)
    assert (lru.capacity_rows, lru.capacity_fraction) == (2, 0.5)
    assert found["lookahead"].window == 4
    assert found["lookahead"].hit_rate == 0.5


def test_a_window_of_one_minibatch_sees_one_minibatch(save_trace: SaveTrace) -> None:
    # A buffer of one row; 0 is worth nothing beyond the window and comes back two minibatches later.
    path = save_trace([[0], [1], [0], [1]], vip=[0.0, 1.0])
    case = load_case(path)
    found = replay_case(
        case,
        Request(policies=("lookahead",), capacities=("1",), windows=(Window.parse("1b"), Window.parse("4"))),
    )
    assert [each.window for each in found] == ["1b", 4]
    assert [each.rows_moved for each in found] == [3, 3]
    assert [each.memory.requests for each in found] == [1, 3]
    assert rows_of(path, policies=("lookahead",), capacities=("1",), windows=(Window(),)) == {"lookahead": 3}


def test_priors_by_name_by_file_and_by_counting(save_trace: SaveTrace, tmp_path: Path) -> None:
    path = save_trace([[0], [0], [1], [0]], vip=[1.0, 0.0], nodes=[50, 7])
    no_window: dict[str, Any] = {"policies": ("lookahead",), "capacities": ("1",), "windows": (Window(),)}
    assert rows_of(path, **no_window)["lookahead"] == 2  # 1 does not drive 0 out
    assert rows_of(path, **no_window, prior="none")["lookahead"] == 3  # the latest stays
    assert rows_of(path, **no_window, prior="frequency", interval=1)["lookahead"] == 2
    by_row, by_id = tmp_path / "row.npy", tmp_path / "id.npy"
    np.save(by_row, np.array([0.0, 1.0]))
    worth = np.zeros(60)
    worth[50] = 1.0
    np.save(by_id, worth)
    assert rows_of(path, **no_window, prior=str(by_row))["lookahead"] == 3
    assert rows_of(path, **no_window, prior=str(by_id))["lookahead"] == 2
    np.save(by_row, np.zeros(3))
    with pytest.raises(ConfigError, match="3 numbers"):
        rows_of(path, **no_window, prior=str(by_row))
    by_row.write_bytes(b"no numpy")
    with pytest.raises(FormatError, match="not an"):
        rows_of(path, **no_window, prior=str(by_row))


def test_static_policies_and_score(save_trace: SaveTrace) -> None:
    path = save_trace([[0, 1, 2]] * 4, vip=[0.0, 0.0, 1.0])
    assert rows_of(path, policies=("static-vip", "static-oracle"), capacities=("1",)) == {
        "static-vip": 9,
        "static-oracle": 9,
    }
    # Counting one minibatch keeps 0, which came first.
    assert rows_of(path, policies=("static-frequency",), capacities=("1",)) == {"static-frequency": 9}
    # The paper's replacement fetches a row for the buffer's sake, though it was just fetched.
    (score,) = replay_case(
        load_case(path), Request(policies=("score",), capacities=("1",), policy_settings={"period": 2})
    )
    assert score.replacement_rows > 0
    assert score.rows_moved == score.rows_requested - score.rows_hit + score.replacement_rows


def test_rows_staged_for_the_depth_serve_again(save_trace: SaveTrace) -> None:
    path = save_trace([[0], [0], [0]])
    assert rows_of(path, policies=("none",), capacities=("1",)) == {"none": 3}
    assert rows_of(path, policies=("none",), capacities=("1",), staged=1) == {"none": 2}


def test_equal_memory_takes_the_window_from_the_buffer(save_trace: SaveTrace) -> None:
    # 40 rows of 10 bytes; a request waiting costs 10 bytes, too: with a window of one buffer, half is left.
    minibatches = [[row] for row in range(40)] * 4
    costs = Costs(row_bytes=10, request_bytes=10)
    request = Request(
        policies=("lookahead", "lru"),
        capacities=("40",),
        windows=(Window(1.0),),
        equal_memory=True,
        costs=costs,
    )
    looking, lru = replay_case(load_case(save_trace(minibatches)), request)
    assert (looking.capacity_rows, looking.buffer_rows) == (40, 20)
    assert looking.memory.total_bytes == 200
    assert lru.buffer_rows == 40
    # Blocks of 15 edges at 2 bytes on top: a row, its request and its block make 50 bytes.
    request = replace(request, costs=replace(costs, edges=15, edge_bytes=2.0))
    looking, _ = replay_case(load_case(save_trace(minibatches)), request)
    assert looking.buffer_rows == 8
    assert (looking.memory.id_bytes, looking.memory.block_bytes) == (80, 240)


def test_a_shared_buffer_serves_what_another_trainer_fetched(save_trace: SaveTrace) -> None:
    first = load_case(save_trace([[0, 1], [0, 1]], name="a", nodes=[100, 200]))
    second = load_case(save_trace([[1, 0], [1, 0], [1]], name="b", nodes=[200, 100]))
    request = Request(policies=("lru", "min"), capacities=("2",))
    found = {(each.policy, each.sharing): each for each in replay_trainers([first, second], request)}
    assert found["lru", "private"].rows_moved == 4
    assert found["lru", "shared"].rows_moved == 2
    assert found["min", "shared"].rows_moved == 2
    assert {each.capacity_rows for each in found.values()} == {4}
    assert {each.rows_requested for each in found.values()} == {9}
    assert {each.trace for each in found.values()} == {"a+b"}


def test_trainers_take_turns_minibatch_by_minibatch(save_trace: SaveTrace) -> None:
    # Two rows shared: LRU would keep a's two rows if b came after it; in turn, nothing stays long enough.
    first = load_case(save_trace([[0], [1], [0], [1]], name="a"))
    second = load_case(save_trace([[0], [1], [0], [1]], name="b", nodes=[50, 60]))
    (private, shared) = replay_trainers([first, second], Request(policies=("lru",), capacities=("1",)))
    assert (private.rows_moved, shared.rows_moved) == (8, 8)
    (_, shared) = replay_trainers([first, second], Request(policies=("lru",), capacities=("2",)))
    assert shared.rows_moved == 4


def test_trainers_want_at_least_two_traces(save_trace: SaveTrace) -> None:
    with pytest.raises(ConfigError, match="two trainers"):
        replay_trainers([load_case(save_trace(PAIRS))], Request())


def test_files_beside_one_another_give_what_they_give_in_turn(save_trace: SaveTrace) -> None:
    paths = [save_trace(PAIRS, name="a"), save_trace(PAIRS[::-1], name="b")]
    request = Request(capacities=("2",))
    assert replay_files(paths, request, jobs=2) == replay_files(paths, request, jobs=1)


def test_traces_of_folders(save_trace: SaveTrace, tmp_path: Path) -> None:
    paths = [save_trace(PAIRS, name="a"), save_trace(PAIRS, name="b")]
    assert find_traces([tmp_path]) == paths
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no traces in"):
        find_traces([tmp_path / "empty"])


def test_ids_too_large_for_a_table(save_trace: SaveTrace) -> None:
    path = save_trace(PAIRS, nodes=[2**60, 3, 2**40, 9])
    assert rows_of(path, policies=("lru",), capacities=("2",)) == {"lru": 6}


def test_a_trace_that_does_not_fit_together(save_trace: SaveTrace) -> None:
    path = save_trace(PAIRS)
    arrays = dict(np.load(path))
    np.savez(path, **{**arrays, "ids": arrays["ids"][:5]})
    with pytest.raises(FormatError, match="offsets"):
        load_case(path)
    np.savez(path, **{**arrays, "vip": arrays["vip"][:1]})
    with pytest.raises(FormatError, match="vip has 1 numbers"):
        load_case(path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"policies": ("nonesuch",)},
        {"staged": -1},
        {"half_life": -1},
        {"interval": 0},
        {"policy_settings": {"alpha": 1.0}},
        {"policy_settings": {"period": -1}},
        {"policy_settings": {"observe": 0}},
        {"prior": "nonesuch"},
        {"capacities": ("0%",)},
        {"capacities": ("0",)},
        {"capacities": ("5",)},
        {"capacities": ("200%",)},
        {"capacities": ("many",)},
    ],
)
def test_requests_that_cannot_work(wrong: dict[str, Any], save_trace: SaveTrace) -> None:
    with pytest.raises(ConfigError):
        rows_of(save_trace(PAIRS), **wrong)
