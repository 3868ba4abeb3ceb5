"""Loading a trace and computing MIN of it stays within its memory."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).resolve().parents[3] / "benchmarks" / "replay_memory.py"


def test_min_of_a_trace_takes_at_most_24_bytes_an_access() -> None:
    # The benchmark asserts the goal, in processes of its own.
    ran = subprocess.run(
        [sys.executable, str(BENCHMARK), "--accesses", "3000000"], capture_output=True, text=True, timeout=200
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    peaks = [float(peak) for peak in re.findall(r"peak ([\d.]+) bytes", ran.stdout)]
    assert len(peaks) == 2
    # Ids and next uses alone: a smaller figure would mean that the peak is not seen.
    assert all(8 <= peak <= 24 for peak in peaks)
