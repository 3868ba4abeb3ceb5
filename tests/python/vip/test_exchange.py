from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

# Ranks 0 and 2 are trainers of partition 1, ranks 1 and 3 of partition 0: ranks need not follow partitions.
TRAINER = """
import sys
import numpy as np, torch.distributed as dist
from rudder.vip import PartitionEdges, Relation, run_over, vip, vip_steps
from rudder.vip.exchange import TorchExchange

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=4)
part = 1 - rank % 2
# Path 0 - 1 - 2 - 3, both directions; partition 0 owns 0 and 1.
whole = Relation(np.array([0, 1, 3, 5, 6]), np.array([1, 0, 2, 1, 3, 2]))
starts = np.array([0, 2, 4])
edges = [
    PartitionEdges(0, starts, np.array([2]), [Relation(np.array([0, 1, 3]), np.array([1, 0, 2]))]),
    PartitionEdges(1, starts, np.array([1]), [Relation(np.array([0, 2, 3]), np.array([2, 1, 0]))]),
][part]
seeds = np.array([0, 3]) if part == 0 else np.array([2])
exchange = TorchExchange(part, 2)
for fanouts in ([1, 1], [1, 2, 1]):  # one exchange serves several refreshes
    got = run_over(exchange, vip_steps(edges, seeds, fanouts, 1))
    assert np.allclose(got, vip(whole, 4, seeds, fanouts, 1), atol=1e-6), (rank, got)
print("agreed")
"""

LOPSIDED = """
import sys
import torch.distributed as dist
from rudder.errors import ConfigError
from rudder.vip.exchange import TorchExchange

rank, folder = int(sys.argv[1]), sys.argv[2]
try:
    TorchExchange(0, 2)
except ConfigError as error:
    assert "init_process_group" in str(error)
dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=3)
try:
    TorchExchange(min(rank, 1), 2)
except ConfigError as error:
    print(error)
"""


# A rank that leaves early breaks the connections of those that still read: all stay until stdin is closed.
# Left to the end of the process, gloo's threads may still run when they are destroyed.
STAY = """
sys.stdout.flush()
sys.stdin.read()
dist.destroy_process_group()
"""


def run(code: str, ranks: int, folder: Path) -> list[tuple[int, str, str]]:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code + STAY, str(rank), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[3],
        )
        for rank in range(ranks)
    ]
    try:
        said = [process.stdout.readline().strip() if process.stdout else "" for process in started]
        for process in started:
            if process.stdin:
                process.stdin.close()
                process.stdin = None
        errors = [process.communicate(timeout=120)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, words, error) for process, words, error in zip(started, said, errors)]


def test_trainers_of_several_processes_agree_with_one_machine(tmp_path: Path) -> None:
    for code, out, err in run(TRAINER, 4, tmp_path):
        assert (code, out) == (0, "agreed"), err


def test_partitions_with_unequal_trainers_are_refused_everywhere(tmp_path: Path) -> None:
    for code, out, err in run(LOPSIDED, 3, tmp_path):
        assert code == 0, err
        assert "1, 2 trainers" in out
