"""`rudder replay`: tables and JSON of small traces, recorded runs, known counts, and what it refuses."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rudder import ArraySource, Options, Plan, PolicySettings, Prefetcher, _core
from rudder.errors import ConfigError, FormatError
from rudder.replay import find_traces, load_case
from rudder.replay.read import read as read_trace
from rudder.replay.trainers import merge

pytest.importorskip("typer")

from typer.testing import CliRunner, Result

from rudder.cli import build_app

# With two rows of buffer, LRU throws 0 and 1 out for 2 and 3.
PAIRS = [[0, 1], [0, 1], [2, 3], [0, 1]]
KEYS = {
    "trace",
    "policy",
    "capacity_fraction",
    "capacity_rows",
    "window",
    "rows_moved",
    "replacement_rows",
    "rows_requested",
    "min_rows",
    "times_min",
}


def save_trace(path: Path, minibatches: list[list[int]] = PAIRS) -> str:
    rows = 1 + max(max(each) for each in minibatches)
    np.savez(
        path,
        ids=np.array([row for each in minibatches for row in each], dtype=np.int32),
        offsets=np.cumsum([0, *map(len, minibatches)]),
        nodes=np.arange(rows),
        vip=np.ones(rows, dtype=np.float32),
        degree=np.ones(rows, dtype=np.int32),
        num_halo=rows,
    )
    return str(path)


def run(*args: str) -> Result:
    """The command's result; errors of Rudder are raised."""
    result = CliRunner().invoke(build_app(["replay"]), ["replay", *args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def numbers(*args: str) -> list[dict[str, Any]]:
    """What ``--json -`` writes."""
    result = run(*args, "--json", "-")
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_json_has_the_rows_of_every_setting(tmp_path: Path) -> None:
    trace = save_trace(tmp_path / "pairs.npz")
    found = numbers(trace, "--policy", "lookahead,lru,min", "--capacity", "50%,4", "--window", "4,1b")
    assert len(found) == 2 * 4
    assert all(set(each) >= KEYS for each in found)
    by_setting = {(each["policy"], each["window"], each["capacity_rows"]): each for each in found}
    lru = by_setting["lru", None, 2]
    assert {key: lru[key] for key in KEYS} == {
        "trace": "pairs",
        "policy": "lru",
        "capacity_fraction": 0.5,
        "capacity_rows": 2,
        "window": None,
        "rows_moved": 6,
        "replacement_rows": 0,
        "rows_requested": 8,
        "min_rows": 4,
        "times_min": 1.5,
    }
    assert by_setting["lookahead", 4, 2]["rows_moved"] == 4
    assert by_setting["lookahead", "1b", 4]["times_min"] == 1.0


def test_the_defaults_are_lookahead_and_lru_at_four_capacities(tmp_path: Path) -> None:
    trace = save_trace(tmp_path / "long.npz", [[row] for row in range(40)] * 2)
    found = numbers(trace)
    assert [each["policy"] for each in found] == ["lookahead", "lru"] * 4
    assert [each["capacity_fraction"] for each in found[::2]] == [0.05, 0.1, 0.25, 0.5]
    assert [each["window"] for each in found[:2]] == [4, None]


def test_the_table_names_what_it_shows(tmp_path: Path) -> None:
    out = run(save_trace(tmp_path / "pairs.npz"), "--capacity", "2", "--policy", "lru,min,none").stdout
    for words in ("pairs", "lru", "1.500", "rows moved", "x MIN", "ms/step", "median"):
        assert words in out


def test_time_per_step(tmp_path: Path) -> None:
    trace = save_trace(tmp_path / "pairs.npz")
    args = (trace, "--policy", "none", "--capacity", "2", "--row-bytes", "1000", "--bandwidth", "1MB")
    # Two rows a step: 2 ms and the latency.
    assert numbers(*args, "--latency", "1ms")[0]["seconds_per_step"] == pytest.approx(3e-3)
    assert numbers(*args, "--latency", "1ms", "--compute", "5ms")[0]["seconds_per_step"] == pytest.approx(
        5e-3
    )
    serial = (*args, "--latency", "1ms", "--compute", "5ms", "--sampling", "500us", "--depth", "0")
    assert numbers(*serial)[0]["seconds_per_step"] == pytest.approx(8.5e-3)


def test_trainers_and_equal_memory(tmp_path: Path) -> None:
    traces = [save_trace(tmp_path / "a.npz"), save_trace(tmp_path / "b.npz")]
    found = numbers(*traces, "--trainers", "--policy", "lru", "--capacity", "100%")
    assert [(each["sharing"], each["rows_moved"]) for each in found] == [("private", 8), ("shared", 4)]
    charged = ("--policy", "lookahead", "--capacity", "4", "--equal-memory", "--row-bytes", "24")
    (found,) = numbers(traces[0], *charged, "--window", "1")
    assert (found["capacity_rows"], found["buffer_rows"], found["window_id_bytes"]) == (4, 2, 48)


def test_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "rows.png"
    run(save_trace(tmp_path / "pairs.npz"), "--capacity", "1,2", "--window", "1,4", "--plot", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")
    for name in ("rows.txt", "nowhere/rows.png"):
        with pytest.raises(ConfigError, match="--plot"):
            run(str(tmp_path / "pairs.npz"), "--plot", str(tmp_path / name))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--policy", "nonesuch"), "unknown policy 'nonesuch'.*lookahead"),
        (("--policy", ","), "at least one"),
        (("--capacity", "0%"), "no row"),
        (("--capacity", "5"), "5 rows, but the trace has 4"),
        (("--capacity", "150%"), "6 rows, but the trace has 4"),
        (("--window", "much"), "window 'much'"),
        (("--bandwidth", "10"), "bandwidth"),
        (("--latency", "1"), "--latency"),
        (("--row-bytes", "0"), "at least 1"),
        (("--prior", "nonesuch", "--capacity", "2"), "prior nonesuch"),
        (("--jobs", "-1"), "--jobs"),
        (("--json", "nowhere/rows.json"), "--json"),
        (("--trainers",), "two trainers"),
        (("--policy", "expected"), "expected.csv"),
    ],
)
def test_settings_that_cannot_work_are_refused(args: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        run(save_trace(tmp_path / "pairs.npz"), *args)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no trace at"):
        run(str(tmp_path / "nonesuch.npz"))
    trace = Path(save_trace(tmp_path / "pairs.npz"))
    trace.write_bytes(trace.read_bytes()[:300])
    with pytest.raises(FormatError, match="pairs"):
        run(str(trace))
    other = tmp_path / "other.trace"
    other.write_bytes(b"RUDTRACE and then nothing that could be read")
    with pytest.raises(FormatError, match="header"):
        run(str(other))


def save_expected(path: Path, rows: list[tuple[str, int]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "trace",
                "capacity_fraction",
                "capacity_rows",
                "policy",
                "rows_moved",
                "of_which_replacement_fetches",
            ]
        )
        writer.writerows(["pairs", 0.5, 2, policy, moved, ""] for policy, moved in rows)


def test_expected_counts_are_compared(tmp_path: Path) -> None:
    trace = save_trace(tmp_path / "pairs.npz")
    right = [("none", 8), ("MIN", 4), ("compulsory", 4), ("LRU", 6), ("look4_vip", 4), ("static_oracle", 4)]
    save_expected(tmp_path / "expected.csv", [*right, ("look16_vip_D1", 5)])
    found = numbers(trace, "--policy", "expected")
    assert [(each["policy"], each["rows_moved"]) for each in found] == right
    assert all(set(each) >= KEYS and each["within"] and each["difference"] == 0 for each in found)
    assert (found[4]["window"], found[4]["min_rows"]) == ("4b", 4)

    save_expected(tmp_path / "expected.csv", [*right[:3], ("LRU", 5)])
    result = run(trace, "--policy", "expected")
    assert result.exit_code == 1
    assert "DIFFERS" in result.output
    assert "1 differ" in result.output


def test_expected_files_that_make_no_sense(tmp_path: Path) -> None:
    trace = save_trace(tmp_path / "pairs.npz")
    for rows in ([("nonesuch", 1)], [("LRU", "many")]):
        save_expected(tmp_path / "expected.csv", rows)  # type: ignore[arg-type]
        with pytest.raises(FormatError):
            run(trace, "--policy", "expected")
    save_expected(tmp_path / "expected.csv", [("LRU", 6)])
    other = save_trace(tmp_path / "other.npz")
    with pytest.raises(ConfigError, match="no row for the trace other"):
        run(other, "--policy", "expected")
    (tmp_path / "expected.csv").write_text("a,b\n1,2\n")
    with pytest.raises(FormatError, match="columns"):
        run(trace, "--policy", "expected")


def record(
    folder: Path, policy: str, *, change: bool, settings: PolicySettings | None = None
) -> dict[str, int]:
    """A recorded run with reads, writes and changes of plan in its midst; the rows that it moved."""
    rng = np.random.default_rng(5)
    worth = rng.pareto(1.2, 1000).astype(np.float32)
    share = worth / worth.sum()
    asked = [rng.choice(1000, 80, p=share) for _ in range(30)]
    rows = np.arange(3000, dtype=np.int16).reshape(1000, 3)
    plan = Plan(interval=4, window=2)
    options = Options(
        capacity=60,
        plan=plan,
        prior=worth,
        policy=policy,
        policy_settings=settings or PolicySettings(),
        record=folder,
    )
    with Prefetcher(ArraySource(rows, [0, 300, 1000]), options) as table:
        for epoch in range(2):
            for number, ids in enumerate(table.iterate(asked, epochs=1)):
                table[ids]
                if change and number == 10:
                    table[[700, 701, 999]]
                    table.invalidate(ids[:40])
                if change and number == 20:
                    table.replan(buffer_share=80 - 30 * epoch, depth=4, rebuild=True)
                if change and number == 25:
                    break  # what was sampled ahead is dropped
    # After close: the sampling thread of an epoch that was left drops what it sampled ahead in its own time.
    metrics = table.metrics()
    return {
        "rows_moved": metrics.rows_moved,
        "rows_requested": metrics.rows_requested,
        "replacement_rows": metrics.rows_replaced,
    }


@pytest.mark.parametrize("policy", _core.policy_names())
def test_a_recorded_run_replays_to_the_rows_that_it_moved(policy: str, tmp_path: Path) -> None:
    for change in (False, True):
        folder = tmp_path / str(change)
        moved = record(folder, policy, change=change)
        for args in ((), ("--policy", policy), ("--policy", policy, "--capacity", "60")):
            (found,) = numbers(str(folder), *args)
            assert {key: found[key] for key in moved} == moved
            assert (found["live"], found["policy"], found["capacity_rows"]) == (True, policy, 60)
            # With a buffer of one size there is a MIN to compare with, and only then.
            assert (found["min_rows"] is None, found["times_min"] is None) == (change, change)


def test_a_recorded_run_under_other_settings(tmp_path: Path) -> None:
    record(tmp_path, "lookahead", change=False)
    found = numbers(str(tmp_path), "--policy", "lookahead,lru,static-vip,min", "--capacity", "30,60")
    assert [each["live"] for each in found] == [False] * 4 + [True] + [False] * 3
    rows = {(each["policy"], each["capacity_rows"]): each["rows_moved"] for each in found}
    assert rows["min", 60] <= rows["lookahead", 60] < rows["lru", 60]
    assert rows["lookahead", 60] < rows["lookahead", 30]
    assert all(each["seconds_per_step"] > 0 for each in found)


@pytest.mark.parametrize(
    ("policy", "args"),
    [
        ("score", ("--period", "32")),
        ("score", ("--alpha", "0.05")),
        ("score", ("--prefill",)),
        ("static-frequency", ("--observe", "3")),
        ("none", ("--staged", "2")),
        ("lookahead", ("--prior", "vip")),
        ("lookahead", ("--half-life", "8")),
        ("score", ("--interval", "4")),
    ],
)
def test_any_setting_that_is_given_makes_it_a_hypothetical_run(
    policy: str, args: tuple[str, ...], tmp_path: Path
) -> None:
    record(tmp_path, policy, change=False)
    assert [each["live"] for each in numbers(str(tmp_path))] == [True]
    assert [each["live"] for each in numbers(str(tmp_path), *args)] == [False]


def test_what_is_given_takes_effect_and_the_rest_is_as_recorded(tmp_path: Path) -> None:
    settings = PolicySettings(period=8, alpha=0.2)
    record(tmp_path, "score", change=False, settings=settings)

    def rows(*args: str) -> tuple[int, int]:
        (found,) = numbers(str(tmp_path), *args)
        return found["rows_moved"], found["replacement_rows"]

    # Staged for as long as in the run, and else as it was: the rows of the run itself.
    assert rows("--staged", "2") == rows()
    assert rows("--staged", "2", "--period", "8") == rows() == rows("--staged", "2", "--alpha", "0.2")
    changed = {
        rows("--staged", "2", *args) for args in (("--period", "4"), ("--alpha", "0.05"), ("--prefill",))
    }
    assert len({rows(), *changed}) == 4
    assert rows("--staged", "0") > rows()


def test_rows_that_were_still_staged_are_counted_apart(tmp_path: Path) -> None:
    record(tmp_path, "none", change=False)
    (found,) = numbers(str(tmp_path))
    assert found["rows_staged"] == found["rows_requested"] - found["rows_moved"] > 0
    assert "staged" in run(str(tmp_path)).output
    (alone,) = numbers(str(tmp_path), "--staged", "0")
    assert (alone["rows_staged"], alone["rows_moved"]) == (0, found["rows_requested"])
    assert "staged" not in run(str(tmp_path), "--staged", "0").output


def test_trainers_share_a_buffer_by_the_worth_that_a_row_has_to_both(tmp_path: Path) -> None:
    a, b, c = 300, 301, 302
    for rank, worths in enumerate(({a: 3.0, b: 2.0}, {a: 3.0, c: 5.0})):
        worth = np.zeros(400, dtype=np.float32)
        for row, value in worths.items():
            worth[row] = value
        options = Options(capacity=1, prior=worth, policy="static-vip", record=tmp_path, rank=rank)
        with Prefetcher(ArraySource(np.ones((400, 2)), [0, 300, 400]), options) as table:
            for _ in range(3):
                table[[a, b, c]]
    merged = merge([load_case(path) for path in find_traces([tmp_path])])
    # What a record held once, levels of worth by a scale of its own, could not be added up.
    assert merged.priors["vip"].tolist() == [6.0, 2.0, 5.0]
    found = numbers(str(tmp_path), "--trainers")
    private = 2 * (3 + 2 + 2)  # the one keeps a, the other c
    shared = 3 + 5 * 1  # both are kept
    assert [(each["sharing"], each["rows_moved"]) for each in found] == [
        ("private", private),
        ("shared", shared),
    ]


def test_a_recording_that_ends_early_replays_up_to_there(tmp_path: Path) -> None:
    record(tmp_path, "lru", change=False)
    (path,) = tmp_path.glob("*.trace")
    whole = numbers(str(path))[0]
    half = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(half)
    if not read_trace(path).truncated:  # by chance between two frames: one byte less is inside of one
        path.write_bytes(half[:-1])
    result = run(str(path), "--json", str(tmp_path / "rows.json"))
    assert "ends in the middle" in " ".join(result.output.split())
    (found,) = json.loads((tmp_path / "rows.json").read_text())
    assert found["truncated"]
    assert 0 < found["rows_requested"] < whole["rows_requested"]


def test_the_default_policy_on_real_traces(shared: Callable[[str], Path]) -> None:
    found = numbers(str(shared("traces")), "--policy", "lookahead", "--capacity", "5%,10%,25%")
    times_min = [each["times_min"] for each in found]
    assert len(times_min) == 15
    assert statistics.median(times_min) <= 1.05
    assert max(times_min) <= 1.10
    assert all(each["rows_moved"] <= each["rows_requested"] for each in found)
