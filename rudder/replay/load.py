"""A trace made ready for replay: ids as row numbers, priors by row, and the settings of the run it is of."""

from __future__ import annotations

import functools
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rudder import _core
from rudder.errors import ConfigError, FormatError
from rudder.plan import Plan
from rudder.policies import PolicySettings, own_prior
from rudder.replay.read import Numbers, Trace, read
from rudder.source import Ids
from rudder.trace import SUFFIX, Call, TraceFile, Worth


@dataclass(frozen=True)
class Live:
    """What a recorded run ran with; ``log`` reads every call that its ledger got, 8 bytes an access.

    ``one_capacity``: the buffer had the same size from begin to end.
    """

    policy: str
    policy_settings: PolicySettings
    plan: Plan
    capacity_rows: int
    depth: int
    table_rows: int
    prior: Worth | None
    one_capacity: bool
    path: Path

    def log(self) -> tuple[list[tuple[str, int, Ids]], list[Worth]]:
        """All calls, and the priors of those that bring one. Raises FormatError, OSError."""
        calls = [entry for entry in TraceFile(self.path) if isinstance(entry, Call)]
        priors = [call.prior for call in calls if call.prior is not None]
        return [(call.name, call.number, call.ids) for call in calls], priors


@dataclass
class Case:
    """A trace: minibatch t asks for rows ``ids[offsets[t]:offsets[t+1]]``, numbers into ``nodes``.

    With what MIN needs it peaks below 24 bytes an access where rows are requested twice or more on the mean.

    ``nodes``: global ids. ``rows``: remote rows that there are, the most that a buffer could hold.
    ``halo``: 1 for rows of the 1-hop halo (None: not known); ``halo_rows``: how many (0: not known).
    ``priors``: worth of each row, by name. ``sampling``, ``training``: mean seconds (None: not recorded).
    """

    name: str
    ids: Numbers
    offsets: Ids
    nodes: Ids
    rows: int
    halo_rows: int
    halo: NDArray[np.float32] | None = None
    priors: dict[str, Worth] = field(default_factory=dict)
    row_bytes: int | None = None
    sampling: float | None = None
    training: float | None = None
    live: Live | None = None
    local_part: int | None = None
    truncated: bool = False
    _least: dict[int, int] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        """Minibatches."""
        return len(self.offsets) - 1

    def __getitem__(self, minibatch: int) -> Ids:
        """The rows of one minibatch, int64."""
        ids: Ids = self.ids[self.offsets[minibatch] : self.offsets[minibatch + 1]].astype(np.int64)
        return ids

    @functools.cached_property
    def rows_requested(self) -> int:
        """Distinct rows of each minibatch, summed: what moves without a buffer."""
        return _core.replay(self.ids, self.offsets, "none", 0)["rows_requested"]

    def min_rows(self, capacities: Sequence[int]) -> list[int]:
        """What MIN moves at each capacity; computed once."""
        new = [capacity for capacity in dict.fromkeys(capacities) if capacity not in self._least]
        if new:
            self._least.update(zip(new, _core.offline_optimum(self.ids, self.offsets, new)))
        return [self._least[capacity] for capacity in capacities]

    def prior(self, name: str) -> Worth | None:
        """Worth by name, by file, or ("") the best there is; None for "none".

        Raises ConfigError, FormatError.
        """
        if name in ("none", "recency"):
            return None
        if name == "":
            return next((self.priors[known] for known in ("vip", "degree") if known in self.priors), None)
        if name in self.priors:
            return self.priors[name]
        if name in ("vip", "degree"):
            raise ConfigError(
                f"{self.name} holds no {name} prior: give --prior FILE.npy, one number for each row"
            )
        return self._prior_of_file(Path(name))

    def _prior_of_file(self, path: Path) -> NDArray[np.float32]:
        if not path.is_file():
            raise ConfigError(f"prior {path}: use vip, degree, frequency, none, or a file of numbers (.npy)")
        try:
            worth = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise FormatError(f"{path} is not an .npy file: {error}") from error
        if not isinstance(worth, np.ndarray) or worth.ndim != 1:
            raise FormatError(f"{path} must hold one array of one dimension")
        if len(worth) > int(self.nodes.max(initial=-1)):
            worth = worth[self.nodes]
        elif len(worth) != len(self.nodes):
            raise ConfigError(
                f"{path} holds {len(worth):,} numbers: give one for each id up to"
                f" {int(self.nodes.max(initial=-1)):,}, or for each of the trace's {len(self.nodes):,} rows"
            )
        return np.ascontiguousarray(worth, dtype=np.float32)


def find_traces(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Trace files: those named, and those in folders that are named.

    Raises ConfigError where there are none.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(path.rglob(f"*{SUFFIX}")) or sorted(path.glob("*.npz"))
            if not inside:
                raise ConfigError(f"no traces in {path}: record a run with `rudder launch --record {path}`")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise ConfigError(
                f"no trace at {path}: give trace files (.trace, .npz), or the folder of a recorded run"
            )
    return list(dict.fromkeys(found))


def load_case(path: Path) -> Case:
    """Read a trace file. Raises FormatError for one that cannot be read."""
    try:
        trace = read(path)
    except OSError as error:
        raise FormatError(f"{path} cannot be read as a trace: {error}") from error
    _check_offsets(path, trace)
    return _of_arrays(path, trace) if trace.header is None else _of_log(path, trace, trace.header)


def _of_arrays(path: Path, trace: Trace) -> Case:
    nodes, halo_rows = trace.nodes, trace.halo_rows or 0
    priors: dict[str, Worth] = {}
    for name, worth in (("vip", trace.vip), ("degree", trace.degree)):
        if worth is not None:
            priors[name] = np.ascontiguousarray(worth)
    for name, numbers in priors.items():
        if len(numbers) != len(nodes):
            raise FormatError(f"{path}: {name} has {len(numbers)} numbers for {len(nodes)} nodes")
    halo = np.zeros(len(nodes), dtype=np.float32)
    halo[:halo_rows] = 1
    return Case(
        name=path.stem,
        ids=trace.numbers,
        offsets=trace.offsets,
        nodes=nodes,
        rows=len(nodes),
        halo_rows=halo_rows,
        halo=halo,
        priors=priors,
    )


def _of_log(path: Path, trace: Trace, header: dict[str, Any]) -> Case:
    nodes = trace.nodes
    try:
        live = Live(
            policy=header["policy"],
            policy_settings=PolicySettings(**header.get("policy_settings", {})),
            plan=Plan.parse(header["plan"]),
            capacity_rows=int(header["capacity_rows"]),
            depth=int(header["depth"]),
            table_rows=int(header["rows"]),
            prior=trace.prior,
            one_capacity=trace.capacities <= {int(header["capacity_rows"])},
            path=path,
        )
        priors: dict[str, Worth] = {}
        # What a caller gave in the place of VIP or degree is taken for it.
        name = live.plan.prior
        if name == "given":
            name = "degree" if own_prior(live.policy) == "degree" else "vip"
        if live.prior is not None and name in ("vip", "degree"):
            priors[name] = live.prior[nodes]
        return Case(
            name=path.name[: -len(SUFFIX)] if path.name.endswith(SUFFIX) else path.name,
            ids=trace.numbers,
            offsets=trace.offsets,
            nodes=nodes,
            rows=int(header["remote_rows"]),
            halo_rows=int(header["halo_rows"]),
            halo=None if trace.halo is None else np.isin(nodes, trace.halo).astype(np.float32),
            priors=priors,
            row_bytes=int(header["row_bytes"]),
            sampling=_mean(trace.seconds[:, 0]),
            training=_mean(trace.seconds[:, 2]),
            live=live,
            local_part=int(header["local_part"]),
            truncated=trace.truncated,
        )
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise FormatError(f"{path}: the header or a prior lacks what a replay needs ({error!r})") from error


def _check_offsets(path: Path, trace: Trace) -> None:
    offsets, accesses = trace.offsets, len(trace.numbers)
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != accesses or (offsets[1:] < offsets[:-1]).any():
        raise FormatError(f"{path}: offsets must ascend from 0 to the {accesses} ids; it may be truncated")


def _mean(seconds: NDArray[np.float32]) -> float | None:
    known = seconds[np.isfinite(seconds)]
    return float(known.mean(dtype=np.float64)) if len(known) else None
