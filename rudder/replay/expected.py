"""Known counts: every row of an `expected.csv` that lies beside traces, replayed and compared.

The file's columns are trace, capacity_fraction, capacity_rows, policy, rows_moved and
of_which_replacement_fetches. Its policies have names of their own, spelt out in `run_expected`.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from rudder import _core
from rudder.errors import ConfigError, FormatError
from rudder.replay.load import Case, load_case
from rudder.replay.read import Numbers

FILE_NAME = "expected.csv"
COLUMNS = (
    "trace",
    "capacity_fraction",
    "capacity_rows",
    "policy",
    "rows_moved",
    "of_which_replacement_fetches",
)

# Relative difference allowed, by policy. Ties may break differently, and priors are quantised to a byte.
_TOLERANCE = {
    r"none|MIN|compulsory|LRU|FIFO|LFU|SIEVE": 0.0,
    r"degree_prefill|vip|static_oracle|look\d+_(vip|lru)|tumb\d+_vip": 0.001,
    r"S3FIFO|WTinyLFU": 0.01,
    r"rudder_k\d+|massivegnn_.*": 0.02,
}
# Rows staged early and charged to the capacity minibatch by minibatch: replay has no such mode.
_NOT_OFFERED = r"look\d+_vip_D\d+"


@dataclass(frozen=True)
class ExpectedRow:
    """One row of the file. ``replacement_rows``: None where the file gives none."""

    trace: str
    capacity_fraction: float
    capacity_rows: int
    policy: str
    rows_moved: int
    replacement_rows: int | None

    @property
    def tolerance(self) -> float:
        """Relative difference allowed."""
        return next(limit for pattern, limit in _TOLERANCE.items() if re.fullmatch(pattern, self.policy))

    @property
    def window(self) -> str | None:
        """As the command line writes it: "16b"; None where the policy has none."""
        match = re.match(r"(?:look|tumb)(\d+)_", self.policy)
        return f"{match[1]}b" if match else None


@dataclass(frozen=True)
class Comparison:
    """What a replay moved beside what was expected; ``moved`` counts what a buffer began with, too."""

    row: ExpectedRow
    moved: int
    replaced: int
    requested: int
    min_rows: int

    @property
    def difference(self) -> float:
        """Relative: 0.01 is 1% more rows than expected."""
        return self.moved / self.row.rows_moved - 1.0 if self.row.rows_moved else float(self.moved > 0)

    @property
    def within(self) -> bool:
        """Is every number of the row met, within its tolerance?"""
        wanted, limit = self.row.rows_moved, self.row.tolerance
        if abs(self.moved - wanted) > limit * wanted:
            return False
        if self.row.replacement_rows is None:
            return True
        missed = wanted - self.row.replacement_rows
        return abs(self.moved - self.replaced - missed) <= limit * missed

    def as_json(self) -> dict[str, Any]:
        """An object with the keys of every replay, and what was expected."""
        return {
            "trace": self.row.trace,
            "policy": self.row.policy,
            "capacity_fraction": self.row.capacity_fraction,
            "capacity_rows": self.row.capacity_rows,
            "window": self.row.window,
            "rows_moved": self.moved,
            "replacement_rows": self.replaced,
            "rows_requested": self.requested,
            "min_rows": self.min_rows,
            "times_min": round(self.moved / self.min_rows, 6) if self.min_rows else None,
            "expected_rows": self.row.rows_moved,
            "expected_replacement_rows": self.row.replacement_rows,
            "difference": round(self.difference, 6),
            "tolerance": self.row.tolerance,
            "within": self.within,
        }


def read_expected(path: Path) -> tuple[list[ExpectedRow], list[ExpectedRow]]:
    """The file's rows that can be replayed, and those of modes that are not offered. Raises FormatError."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if not set(COLUMNS) <= set(reader.fieldnames or ()):
                raise FormatError(f"{path} needs the columns {', '.join(COLUMNS)}")
            rows = [_row(path, record) for record in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{path} cannot be read: {error}") from error
    offered = [row for row in rows if not re.fullmatch(_NOT_OFFERED, row.policy)]
    return offered, [row for row in rows if re.fullmatch(_NOT_OFFERED, row.policy)]


def _row(path: Path, record: dict[str, str]) -> ExpectedRow:
    policy, replaced = record["policy"], record["of_which_replacement_fetches"]
    try:
        row = ExpectedRow(
            trace=record["trace"],
            capacity_fraction=float(record["capacity_fraction"]),
            capacity_rows=int(record["capacity_rows"]),
            policy=policy,
            rows_moved=int(record["rows_moved"]),
            replacement_rows=int(replaced) if replaced else None,
        )
    except (ValueError, TypeError) as error:
        raise FormatError(f"{path}, policy {policy}: {error}") from error
    if not any(re.fullmatch(pattern, policy or "") for pattern in (*_TOLERANCE, _NOT_OFFERED)):
        raise FormatError(f"{path} names a policy that is unknown: {policy!r}")
    return row


def run_expected(case: Case, policy: str, capacity: int) -> tuple[int, int]:
    """Replay a policy by the file's name for it: rows moved, and how many of them only to replace.

    Raises ConfigError for a name that is unknown.
    """
    ids, offsets = case.ids, case.offsets
    if policy == "MIN":
        return case.min_rows([capacity])[0], 0
    if policy == "static_oracle":
        return _core.static_oracle(ids, offsets, capacity), 0
    if policy == "compulsory":
        return _core.compulsory(ids, offsets), 0
    halo = case.halo if case.halo is not None else np.ones(len(case.nodes), dtype=np.float32)
    name, settings = policy.lower(), {}
    if policy == "degree_prefill":
        name, settings = "static-degree", {"prior": halo * _worth(case, "degree"), "prefill": True}
    elif policy == "vip":
        name, settings = "static-vip", {"prior": _worth(case, "vip")}
    elif match := re.fullmatch(r"rudder_k(\d+)", policy):
        name, settings = "score", {"prior": halo, "period": int(match[1]), "alpha": 0.05}
    elif policy.startswith("massivegnn"):
        prior = halo * _worth(case, "degree")
        name, settings = "score", {"prior": prior, "prefill": True, "period": 32, "alpha": 0.005}
    elif look := re.fullmatch(r"(look|tumb)(\d+)_(vip|lru)", policy):
        name, settings = "lookahead", {"window": int(look[2]), "tumbling": look[1] == "tumb"}
        if look[3] == "vip":
            settings["prior"] = _worth(case, "vip")
        else:
            ids = _by_falling_id(case)
    answer = _core.replay(ids, offsets, name, capacity, **settings)
    # What the buffer began with is moved, but replaced nothing.
    filled = min(capacity, int(np.count_nonzero(settings["prior"]))) if settings.get("prefill") else 0
    return answer["rows_moved"], answer["replacement_rows"] - filled


def _worth(case: Case, name: str) -> np.ndarray:
    worth = case.prior(name)
    assert worth is not None
    return worth.astype(np.float32)


def _by_falling_id(case: Case) -> Numbers:
    """Each minibatch in falling order of rows: where recency ties, the counts keep the lower one."""
    minibatch = np.repeat(np.arange(len(case)), np.diff(case.offsets))
    ids: Numbers = case.ids[np.lexsort((-case.ids, minibatch))]
    return ids


def compare(case: Case, row: ExpectedRow) -> Comparison:
    """Replay one row of the file."""
    moved, replaced = run_expected(case, row.policy, row.capacity_rows)
    return Comparison(row, moved, replaced, case.rows_requested, case.min_rows([row.capacity_rows])[0])


def _compare_file(path: Path, rows: Sequence[ExpectedRow]) -> list[Comparison]:
    case = load_case(path)
    case.min_rows(sorted({row.capacity_rows for row in rows}))  # several capacities cost little more than one
    return [compare(case, row) for row in rows]


def compare_files(paths: Sequence[Path], jobs: int = 0) -> tuple[list[Comparison], list[ExpectedRow]]:
    """Every row of the `expected.csv` beside the traces; and the rows of modes that are not offered.

    Raises ConfigError where no such file lies there, or none has a row for a trace.
    """
    work: list[tuple[Path, list[ExpectedRow]]] = []
    left: list[ExpectedRow] = []
    for path in paths:
        file = path.parent / FILE_NAME
        if not file.is_file():
            raise ConfigError(f"--policy expected compares with {file}, which does not exist")
        offered, others = read_expected(file)
        mine = [row for row in offered if row.trace == path.stem]
        if not mine:
            raise ConfigError(f"{file} has no row for the trace {path.stem}")
        work.append((path, mine))
        left += [row for row in others if row.trace == path.stem]
    jobs = min(len(work), jobs or os.cpu_count() or 1)
    if jobs <= 1:
        return [found for path, rows in work for found in _compare_file(path, rows)], left
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        results = pool.map(_compare_file, [path for path, _ in work], [rows for _, rows in work])
        return [found for comparisons in results for found in comparisons], left
