"""Real keepers and workers under every fault, and the processes that each leaves: none.

The worker's model is random weights in llama.cpp.
"""

from __future__ import annotations

import os
import random
import selectors
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from rudder import Evidence, Plan
from rudder.agent.llm import AgentController
from rudder.agent.worker.channel import Channel
from rudder.agent.worker.decider import probe
from rudder.agent.worker.protocol import VERSION, Answer, Ask, Failed, Hello, Message, State
from rudder.agent.worker.settings import WorkerSettings
from rudder.agent.worker.start import start_keeper
from rudder.agent.worker.watched import MOST_FAILURES

# A step's time in the evidence below decides the deadline: long, so that busy machines do not matter.
LONG_S = 320.0


class Keeper:
    """A real keeper, and the test as its one trainer."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.process, end = start_keeper(settings)
        self.channel = Channel(end)
        self.channel.send(Hello(VERSION, "test"))
        self.heard: list[Message] = []

    def hear(self, wanted: Callable[[Message], bool]) -> Message:
        """The next message of a kind; waits for it. Raises ConnectionError when the keeper ends."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.channel, selectors.EVENT_READ)
            while True:
                for place, message in enumerate(self.heard):
                    if wanted(message):
                        del self.heard[: place + 1]
                        return message
                selector.select()
                self.heard += self.channel.receive()  # type: ignore[arg-type]

    def state(self, wanted: str) -> State:
        found = self.hear(lambda message: isinstance(message, State) and message.state == wanted)
        assert isinstance(found, State)
        return found

    def reply(self, ask: Ask) -> Answer | Failed:
        self.channel.send(ask)
        found = self.hear(lambda message: isinstance(message, (Answer, Failed)) and message.id == ask.id)
        assert isinstance(found, (Answer, Failed))
        return found

    def worker(self) -> psutil.Process:
        (found,) = psutil.Process(self.process.pid).children()
        return found

    def close(self) -> None:
        self.channel.close()
        assert self.process.wait(30) == 0


@pytest.fixture
def start() -> Iterator[Callable[..., Keeper]]:
    started: list[Keeper] = []

    def make(model: Path | str, **settings: Any) -> Keeper:
        started.append(Keeper(WorkerSettings(str(model), **settings)))
        return started[-1]

    yield make
    for keeper in started:
        keeper.channel.close()
        keeper.process.kill()
        keeper.process.wait()


def test_a_decision_comes_with_its_cost(start: Callable[..., Keeper], model: Path) -> None:
    keeper = start(model)
    report = keeper.state("ready").report
    assert report["parameters"] > 900_000
    assert report["decision_ms"] > 0
    reply = keeper.reply(probe(5, 60_000.0))
    assert isinstance(reply, Answer)
    assert reply.cost["rss_bytes"] > report["rss_bytes"]  # the keeper's too
    assert reply.cost["cpu_seconds"] > reply.cost["cpu_ms"] / 1000 > 0
    keeper.close()


def test_the_worker_is_polite(
    start: Callable[..., Keeper], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    keeper = start(model, nice=3)
    keeper.state("ready")
    worker = keeper.worker()
    assert worker.nice() == psutil.Process().nice() + 3
    assert worker.environ()["CUDA_VISIBLE_DEVICES"] == ""
    assert worker.environ()["OMP_NUM_THREADS"] == "1"
    assert worker.num_threads() == 1
    # Where memory runs out, the kernel ends it first.
    assert Path(f"/proc/{worker.pid}/oom_score_adj").read_text() == "1000\n"
    assert os.getsid(worker.pid) != os.getsid(0)  # Ctrl-C does not reach it
    keeper.close()


def test_a_killed_worker_is_started_anew(start: Callable[..., Keeper], model: Path) -> None:
    keeper = start(model)
    keeper.state("ready")
    first = keeper.worker()
    first.kill()
    assert "SIGKILL" in keeper.state("restarting").reason
    keeper.state("ready")
    assert keeper.worker().pid != first.pid
    assert isinstance(keeper.reply(probe(5, 60_000.0)), Answer)
    keeper.close()


def test_a_worker_that_hangs_is_killed(start: Callable[..., Keeper], model: Path) -> None:
    keeper = start(model)
    keeper.state("ready")
    first = keeper.worker()
    first.suspend()
    reply = keeper.reply(probe(5, 300.0))
    assert isinstance(reply, Failed)
    assert "did not answer within 300 ms, twice" in reply.reason
    first.wait(30)
    keeper.state("ready")
    assert isinstance(keeper.reply(probe(6, 60_000.0)), Answer)
    keeper.close()


def test_a_worker_that_fails_every_time_is_given_up(start: Callable[..., Keeper], model: Path) -> None:
    keeper = start(model)
    for _ in range(MOST_FAILURES - 1):
        keeper.state("ready")
        keeper.worker().kill()
    keeper.state("ready")
    keeper.worker().kill()
    assert f"failed {MOST_FAILURES} times in a row" in keeper.state("refused").reason
    reply = keeper.reply(probe(5, 60_000.0))
    assert isinstance(reply, Failed)
    assert "in a row" in reply.reason
    assert psutil.Process(keeper.process.pid).children() == []
    keeper.close()


@pytest.mark.parametrize("fault", ["missing", "empty", "random", "truncated", "a folder"])
def test_a_file_that_is_no_model_is_refused_with_the_reason(
    fault: str, start: Callable[..., Keeper], model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    if fault == "a folder":
        path.mkdir()
    elif fault != "missing":
        whole = model.read_bytes()
        data = {
            "empty": b"",
            "random": random.Random(0).randbytes(5000),
            "truncated": whole[: len(whole) // 2],
        }
        path.write_bytes(data[fault])
    keeper = start(path)
    assert str(path) in keeper.state("refused").reason
    assert isinstance(keeper.reply(probe(5, 1000.0)), Failed)
    keeper.close()


def test_a_file_with_flipped_bits_is_refused_or_runs_but_nothing_else(
    start: Callable[..., Keeper], model: Path, tmp_path: Path
) -> None:
    whole = bytearray(model.read_bytes())
    rng = random.Random(2)
    for trial in range(6):
        broken = bytearray(whole)
        # In the header, whose numbers say where everything is, and anywhere.
        for _ in range(8):
            broken[rng.randrange(24, 2000)] ^= 1 << rng.randrange(8)
            broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        path = tmp_path / f"{trial}.gguf"
        path.write_bytes(broken)
        keeper = start(path)
        found = keeper.hear(lambda message: isinstance(message, State) and message.state != "starting")
        assert isinstance(found, State)
        if found.state == "ready":
            reply = keeper.reply(probe(5, 60_000.0))
            assert isinstance(reply, Failed) or probe(5, 1.0).space.allows(Plan(), Plan.parse(reply.plan))
        else:
            assert found.reason
        keeper.close()


def test_garbage_from_a_worker_ends_it(start: Callable[..., Keeper], model: Path) -> None:
    keeper = start(model)
    keeper.state("ready")
    first = keeper.worker()
    # Its end of the socket, written to by somebody else.
    sockets = [int(fd) for fd in os.listdir(f"/proc/{first.pid}/fd") if _is_socket(first.pid, fd)]
    if not hasattr(os, "pidfd_open") or not sockets:
        pytest.skip("no way here to write to another process's socket")
    stolen = _steal(first.pid, sockets[0])
    stolen.send(b"I think, therefore\n")
    assert "not asked for" in keeper.state("restarting").reason
    stolen.close()
    keeper.state("ready")
    keeper.close()


def _is_socket(pid: int, fd: str) -> bool:
    return os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:")


def _steal(pid: int, fd: int) -> socket.socket:
    """A copy of another process's socket (pidfd_getfd, Linux 5.6)."""
    import ctypes

    number = ctypes.CDLL(None, use_errno=True).syscall(438, os.pidfd_open(pid), fd, 0)
    if number < 0:
        pytest.skip("pidfd_getfd is not allowed here")
    return socket.socket(fileno=number)


def test_a_trainer_s_end_ends_keeper_and_worker(start: Callable[..., Keeper], model: Path) -> None:
    keeper = start(model)
    keeper.state("ready")
    worker = keeper.worker()
    keeper.close()
    worker.wait(30)


@pytest.mark.parametrize("how", ["killed", "killed while its worker is stopped"])
def test_a_killed_keeper_leaves_no_worker(how: str, start: Callable[..., Keeper], model: Path) -> None:
    keeper = start(model)
    keeper.state("ready")
    worker = keeper.worker()
    if "stopped" in how:
        worker.suspend()
    keeper.process.kill()
    worker.wait(30)


TRAINER = """
import os, signal, sys
from rudder.agent.controller import Report
from rudder.agent.llm import AgentController
from rudder.agent.worker.settings import WorkerSettings
agent = AgentController(WorkerSettings(sys.argv[1]))
while agent.state != "ready":
    agent.listen(60)
if os.fork() == 0:  # a sampler, say, which keeps the socket open
    print("forked", flush=True)
    signal.pause()
print("here", flush=True)
sys.stdin.read()
"""


def test_a_killed_trainer_leaves_nothing_even_where_a_child_of_it_lives(model: Path) -> None:
    trainer = subprocess.Popen(
        [sys.executable, "-c", TRAINER, str(model)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert trainer.stdout is not None
    trainer.stdout.readline()
    trainer.stdout.readline()
    children = psutil.Process(trainer.pid).children(recursive=True)
    assert len(children) == 3  # the forked child, the keeper, the worker
    keeper = next(child for child in children if child.children())
    worker = keeper.children()[0]
    try:
        trainer.kill()
        trainer.wait()
        keeper.wait(30)
        worker.wait(30)
    finally:
        for child in children:
            if child.is_running():
                child.kill()


def test_two_trainers_of_a_host_share_one_worker(model: Path, tmp_path: Path) -> None:
    address = str(tmp_path / "agent.sock")
    settings = WorkerSettings(str(model), address=address)
    process = subprocess.Popen([sys.executable, "-m", "rudder.agent.worker.keeper", settings.to_json()])
    try:
        agents = [AgentController(settings, f"rank {rank}") for rank in range(2)]
        for agent in agents:
            while agent.state != "ready":
                agent.listen(1.0)
        for agent in agents:
            agent.ask(_evidence(0))
        for agent in agents:
            while not (agent.report().decision_ms > 0 and agent.report().cpu_seconds > 0):
                agent.listen(1.0)
            agent.decide(_evidence(0))
            assert agent.counts.valid == 1
        assert len(psutil.Process(process.pid).children()) == 1
        agents[0].close()
        agents[1].ask(_evidence(1))
        agents[1].close()
    finally:
        process.terminate()
        assert process.wait(30) == 0


def _evidence(interval: int, plan: Plan | None = None) -> Evidence:
    from rudder.metrics import IntervalMetrics

    plan = plan or Plan()
    metrics = IntervalMetrics(
        "features",
        0,
        interval,
        plan.interval,
        plan,
        4,
        rows_requested=100 + interval,
        capacity_rows=9,
        seconds_wall=LONG_S,
    )
    return Evidence(metrics, probe(1, 1.0).space)
