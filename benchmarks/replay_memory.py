"""Peak memory of loading a trace and computing MIN of it, per access, for both kinds of trace file.

Skewed minibatches of 10,000 ids out of a tenth as many rows as there are accesses, which lie scattered in a
table of as many rows as there are accesses. A process of its own loads each file and computes MIN at 5, 10
and 25% of the rows. Asserts the goal, and that both files give the same MIN.

    python benchmarks/replay_memory.py --accesses 20000000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from rudder import Plan, trace

GOAL = 24.0
MINIBATCH = 10_000
# The peak of this process image: ru_maxrss would begin with the peak of the process that started it.
CHILD = """
import json, re, sys
from pathlib import Path
import numpy as np
from rudder.replay import load_case

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) << 10

before = peak()
case = load_case(Path(sys.argv[1]))
rows = case.min_rows([len(case.ids) * share // 1000 for share in (5, 10, 25)])
print(json.dumps({"bytes": peak() - before, "whole": peak(), "accesses": len(case.ids), "min_rows": rows}))
"""


def write(folder: Path, accesses: int) -> list[Path]:
    """The same accesses as an .npz trace and as a recorded one."""
    rng = np.random.default_rng(0)
    rows = accesses // 10
    minibatches = accesses // MINIBATCH
    numbers = np.concatenate(
        [(rng.random(MINIBATCH) ** 2 * rows).astype(np.int32) for _ in range(minibatches)]
    )
    # Ids lie anywhere in a table of ten times as many rows.
    nodes = np.sort(rng.permutation(10 * rows)[:rows]).astype(np.int64)
    arrays, recorded = folder / "arrays.npz", folder / "recorded.trace"
    np.savez(
        arrays,
        ids=numbers,
        offsets=np.arange(0, len(numbers) + 1, MINIBATCH),
        nodes=nodes,
        vip=np.zeros(rows, dtype=np.float32),
        degree=np.zeros(rows, dtype=np.int32),
        num_halo=rows,
    )
    header = {
        "policy": "lru",
        "plan": str(Plan()),
        "rows": 10 * rows,
        "remote_rows": 10 * rows,
        "halo_rows": rows,
        "capacity_rows": rows // 10,
        "depth": 0,
        "row_bytes": 512,
        "local_part": 0,
    }
    nothing = nodes[:0]
    with recorded.open("wb") as file:
        file.write(trace.MAGIC + trace.header_frame(header))
        for number in range(minibatches):
            ids = nodes[numbers[number * MINIBATCH : (number + 1) * MINIBATCH]]
            file.write(trace.call_frame("foresee", number + 1, ids))
            file.write(trace.call_frame("execute", number + 1, nothing))
    return [arrays, recorded]


def measure(path: Path) -> dict[str, float]:
    """Bytes an access, and MIN."""
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, float] = json.loads(child.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--accesses", type=int, default=20_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        answers = []
        for path in write(Path(folder), arguments.accesses):
            found = measure(path)
            answers.append(found["min_rows"])
            per_access = found["bytes"] / found["accesses"]
            assert per_access <= GOAL, (path.name, per_access)
            print(
                f"{path.suffix}: {found['accesses']:,} accesses, peak {per_access:.1f} bytes an access beside"
                f" the interpreter, {found['whole'] / found['accesses']:.1f} with it (goal: {GOAL:.0f})"
            )
        assert answers[0] == answers[1], answers


if __name__ == "__main__":
    main()
