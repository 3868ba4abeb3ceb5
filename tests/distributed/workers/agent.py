"""Trainers that ask their host's agent, without DGL; argument 1: folder in which each says that it is done.

Argument 2, where given, is "kill": the first trainer kills its host's agent in between.
"""

import os
import sys
import time
from pathlib import Path

import psutil

from rudder.agent import Evidence, make_controller
from rudder.launch.cleanup import processes
from rudder.metrics import IntervalMetrics
from rudder.plan import Plan

done = Path(sys.argv[1])


def interval(number: int) -> Evidence:
    metrics = IntervalMetrics("t", 0, number, 32, Plan(), 4, rows_requested=100, seconds_wall=600.0)
    return Evidence(metrics)


if os.environ["DGL_ROLE"] == "server":
    while len(list(done.glob("rank*"))) < int(os.environ["DGL_NUM_CLIENT"]):
        time.sleep(0.02)
    sys.exit(0)

rank, host = int(os.environ["RANK"]), os.environ["RUDDER_HOST"]
assert os.environ["RUDDER_CONTROLLER"] == "agent"
agent = make_controller("agent")
while agent.state != "ready":
    agent.listen(1.0)
agent.ask(interval(0))
while agent.waiting:
    agent.listen(1.0)
agent.decide(interval(0))
print(f"valid={agent.counts.valid} own keeper={agent.keeper}", flush=True)
if len(sys.argv) > 2 and rank == 0:
    job = [psutil.Process(pid) for pid in processes(os.environ["RUDDER_JOB"])]
    of_agent = [process for process in job if f"agent{host}.sock" in " ".join(process.cmdline())]
    keeper = next(process for process in of_agent if process.children())
    (model,) = keeper.children()
    keeper.kill()
    model.wait(30)  # it dies with its keeper
    while agent.decide(interval(1)) == Plan() and agent.state == "ready":
        agent.listen(1.0)
    print(f"without an agent: {agent.state}", flush=True)
agent.close()
(done / f"rank{rank}").touch()
