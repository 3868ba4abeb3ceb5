"""Trainers of a host trade memory: by real processes, within what they brought, whoever dies."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rudder import ArraySource, Options, Plan, Prefetcher
from rudder.agent.rule import RuleController
from rudder.agent.trade import Need, free_rows
from rudder.config import ENV_SHARE_MEMORY, ENV_SHARES
from rudder.errors import ConfigError, FormatError
from rudder.share_board import Board, BusyError
from rudder.shares import Shares

NEED = Need(10.0, 5.0, 1.0, 0.0)
OWN = 800
# Intervals that any of this may take.
MOST = 60


class Trainer:
    """A process of `shares_trainer.py`."""

    def __init__(self, env: dict[str, str], rank: int, working_set: int) -> None:
        script = Path(__file__).with_name("shares_trainer.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(rank), str(working_set)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **env},
        )
        self.hear()

    def train(self, minibatches: int = 16) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{minibatches}\n")
        self.process.stdin.flush()
        return self.hear()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        told: dict[str, Any] = json.loads(self.process.stdout.readline())
        return told

    def end(self) -> int:
        self.process.communicate()
        return self.process.returncode


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Trainer]]:
    """Starts trainers of one host."""
    started: list[Trainer] = []
    host = {ENV_SHARES: str(tmp_path / "board"), ENV_SHARE_MEMORY: "1", "LOCAL_WORLD_SIZE": "2"}

    def begin(rank: int, working_set: int, **env: str) -> Trainer:
        started.append(Trainer({**host, **env}, rank, working_set))
        return started[-1]

    yield begin
    for trainer in started:
        trainer.process.kill()
        trainer.process.communicate()


def check(board: Board, trainers: int) -> list[list[int]]:
    """No change was lost, and none left more in use than the trainers had brought."""
    changes = board.changes()
    assert [number for number, *_ in changes] == list(range(1, len(changes) + 1))
    for _, _, _, _, held, owned in changes:
        assert held <= owned
    assert changes[-1][-1] == trainers * OWN
    assert free_rows(board.members()) >= 0
    return changes


def train(trainers: Sequence[Trainer], until: Callable[[list[int]], bool]) -> list[list[dict[str, Any]]]:
    """What each interval tells, until the trainers' shares are as wanted."""
    told: list[list[dict[str, Any]]] = []
    while not told or not until([each["share"] for each in told[-1]]):
        assert len(told) < MOST, told
        told.append([trainer.train() for trainer in trainers])
    return told


@pytest.mark.parametrize("controller", ["shadow", "rule"])
def test_memory_moves_to_the_trainer_in_need(
    start: Callable[..., Trainer], tmp_path: Path, controller: str
) -> None:
    trainers = [start(0, 2000, CONTROLLER=controller), start(1, 300, CONTROLLER=controller)]
    alone = [trainer.train() for trainer in trainers for _ in range(2)][1]  # the buffer is full by then
    train(trainers, lambda shares: shares == [150, 50])
    needy, easy = [[trainer.train() for trainer in trainers] for _ in range(2)][-1]
    assert needy["rows_moved"] < 0.8 * alone["rows_moved"]
    assert easy["rows_moved"] == 0
    board = Board(tmp_path / "board.x", 9)
    for _, rank, before, after, _, _ in check(board, 2):
        assert after in (before, before + 200) if rank == 0 and before else after in (OWN, 600, 400)
    holds = {rank: each.holds for rank, each in board.members().items()}
    assert holds[0] == needy["capacity_rows"]
    assert [trainer.end() for trainer in trainers] == [0, 0]
    left = {rank: (each.holds, each.live) for rank, each in board.members().items()}
    assert left == {0: (OWN, False), 1: (holds[1], False)}


@pytest.mark.parametrize("victim", ["taker", "giver"])
def test_a_trainer_that_is_killed_leaves_the_others_at_work(
    start: Callable[..., Trainer], tmp_path: Path, victim: str
) -> None:
    taker, giver = start(0, 2000), start(1, 300)
    board = Board(tmp_path / "board.x", 9)
    train([taker, giver], lambda shares: shares[0] > 100)
    dead, other = (taker, giver) if victim == "taker" else (giver, taker)
    dead.process.kill()
    dead.process.wait()
    members = board.members()
    assert not members[0 if victim == "taker" else 1].live
    if victim == "taker":  # what it had taken goes back to who gave it
        train([giver], lambda shares: shares == [100])
    else:
        assert {other.train()["share"] for _ in range(3)} <= {125, 150}
    check(board, 2)
    assert other.end() == 0


def test_the_board_grants_no_more_than_is_free(tmp_path: Path) -> None:
    one, two = (Board(tmp_path / "x", rank) for rank in range(2))
    assert (one.join(1000, 250), two.join(400, 100)) == (1000, 400)
    assert one.take([1250, 1000]) == 1000
    assert two.take([300]) == 300
    assert one.take([1100, 1050, 1000]) == 1000  # wanted less, but holds it still
    two.publish(need=NEED, holds=300)
    assert one.take([1250, 1100, 1050, 1000]) == 1100
    assert two.take([400, 380, 300]) == 300
    assert two.members()[1].claim == 100
    assert two.members()[1].need is not None
    assert one.take([1000]) == 1000
    one.publish(need=None, holds=1000)
    assert two.take([400]) == 400
    assert two.members()[1].need is None  # of another share
    assert [change[4:] for change in one.changes()] == [
        [1000, 1000],
        [1400, 1400],
        [1300, 1400],
        [1400, 1400],
        [1300, 1400],
        [1400, 1400],
    ]


def test_who_comes_back_finds_what_it_left(tmp_path: Path) -> None:
    one, two = (Board(tmp_path / "x", rank) for rank in range(2))
    assert (one.join(1000, 250), two.join(1000, 250)) == (1000, 1000)
    assert one.join(1000, 250) == 0  # it is there
    two.take([750])
    two.publish(need=None, holds=750)
    assert one.take([1250]) == 1250
    two.leave()
    assert (two.members()[1].holds, two.members()[1].live) == (750, False)
    assert two.join(1000, 250) == 750
    two.leave()
    assert two.join(400, 100) == 150  # what it had given is still another's
    two.leave()
    assert two.join(250, 63) == 0
    assert two.members()[1].holds == 150


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    board = Board(tmp_path / "x", 0)
    board.join(1000, 250)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from rudder.share_board import Board\n"
            "with Board(Path(sys.argv[1]), 1)._locked(1.0): print('here', flush=True); sys.stdin.read()",
            str(tmp_path / "x"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "here\n"
    with pytest.raises(BusyError):
        board.publish(need=NEED)
    holder.kill()
    holder.communicate()
    assert board.members()[0].holds == 1000


def run(options: Options, minibatches: int = 40) -> Prefetcher:
    rows = np.arange(8000, dtype=np.float32).reshape(2000, 4)
    table = Prefetcher(ArraySource(rows, [0, 500, 2000], name="x"), options)
    rng = np.random.default_rng(0)
    for ids in table.iterate([rng.integers(500, 2000, 50) for _ in range(minibatches)]):
        assert (table[ids] == rows[ids]).all()
    return table


class Wants:
    """Answers one share after the other, then the plan in force."""

    def __init__(self, *shares: int) -> None:
        self.shares = itertools.chain(shares)
        self.seen: list[int] = []

    def decide(self, evidence: Any) -> Plan:
        self.seen.append(evidence.plan.share)
        return evidence.plan.but(share=next(self.shares, evidence.plan.share))  # type: ignore[no-any-return]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    """The board of a host, with a trainer of number 1 that has given 100 of its 400 rows."""
    monkeypatch.setenv(ENV_SHARES, str(tmp_path / "board"))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    other = Board(tmp_path / "board.x", 1)
    other.join(400, 100)
    other.take([300])
    other.publish(need=None, holds=300)
    return other


def options(controller: Any, **more: Any) -> Options:
    plan = Plan(interval=4, prior="none")
    return Options(capacity=400, controller=controller, share_memory=True, plan=plan, prior="none", **more)


def test_what_is_in_force_is_what_was_granted(host: Board, tmp_path: Path) -> None:
    controller = Wants(200, 200, 50, 100)
    with run(options(controller, guard=False, metrics_dir=tmp_path / "run")) as table:
        assert controller.seen == [100, 125, 125, 50, 100, 100, 100, 100, 100]
        assert (table.plan.share, table.metrics().capacity_rows) == (100, 400)
        assert table.replan(share=150).share == 125
        assert (table.metrics().capacity_rows, host.members()[0].holds) == (500, 500)
    assert host.members()[0].holds == 400
    lines = [json.loads(line) for line in (tmp_path / "run" / "decisions-0.x.jsonl").open(encoding="utf-8")]
    found = [(line["shares"]["wanted"], line["shares"]["granted"]) for line in lines[:4]]
    assert found == [(200, 125), (200, 125), (50, 50), (100, 100)]
    from rudder import explain

    (said,) = [text for text in explain.as_text(explain.read(tmp_path / "run")[0]) if "share  " in text]
    assert "125% of its own memory, 200% wanted" in said


def test_memory_is_given_when_it_has_gone_back(host: Board) -> None:
    board = Board(host.path, 0)
    shares = Shares(board, 400)
    assert shares.granted(75) == 75
    shares.applied(400)  # readers still hold rows beyond
    assert (host.members()[0].holds, host.members()[0].promised) == (400, 100)
    assert host.take([500]) == 300  # the 100 that it gave are free; 100 more are not yet
    shares.applied(300)
    assert host.members()[0].holds == 300
    assert host.take([500]) == 500


def test_controllers_of_a_name_know_nothing_of_shares(host: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(
        RuleController, "decide", lambda self, evidence: seen.append(evidence) or evidence.plan
    )
    with run(options("rule", shadow_share=1.0), 12) as table:
        assert table.replan(share=75).share == 75
        for ids in table.iterate([np.arange(500, 600)] * 12):
            table[ids]
        assert table.plan.share in (75, 100)
    assert {evidence.plan.share for evidence in seen} == {100}
    assert any(evidence.counterfactuals for evidence in seen)
    assert not any(evidence.space.shares or {"s+", "s-"} & {*evidence.counterfactuals} for evidence in seen)


def test_without_sharing_a_share_means_nothing() -> None:
    controller = Wants(150, 50)
    shared = Options(capacity=400, controller=controller, plan=Plan(interval=4, prior="none"), prior="none")
    with run(shared) as table:
        assert set(controller.seen) == {100}
        assert table.metrics().capacity_rows == 400


def test_where_memory_cannot_be_shared_that_is_said(
    host: Board, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigError, match="needs a controller"):
        run(options("default"))
    with pytest.raises(ConfigError, match="begins with all"):
        Options(plan=Plan(share=75))
    with run(options("shadow")), pytest.raises(ConfigError, match="it is on"):
        run(options("shadow"))
    host.path.write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="is no board"):
        run(options("shadow"))
    monkeypatch.delenv(ENV_SHARES)
    with pytest.raises(ConfigError, match="no place in common"):
        run(options("shadow"))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    with run(options("shadow")) as table:
        assert table.plan.share == 100
    assert "one trainer" in caplog.text


def test_a_board_that_breaks_costs_the_trades_alone(host: Board, caplog: pytest.LogCaptureFixture) -> None:
    class Breaks(Wants):
        def decide(self, evidence: Any) -> Plan:
            if len(self.seen) == 1:
                host.path.write_text("no board", encoding="utf-8")
            return super().decide(evidence)

    with run(options(Breaks(125, 150, 150, 75, 100), guard=False)) as table:
        assert table.plan.share == 75
    assert caplog.text.count("no longer traded") == 1
    with pytest.raises(FormatError):
        host.members()
