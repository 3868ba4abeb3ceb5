"""A trace made ready for replay: ids as row numbers, priors by row, and the settings of the run it is of."""

from __future__ import annotations

import functools
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from rudder import _core, trace
from rudder.errors import ConfigError, FormatError
from rudder.plan import Plan
from rudder.source import Ids

#: Worth (float32) or levels (uint8) of each row.
Worth = Union[NDArray[np.float32], NDArray[np.uint8]]
# Above it, a table from ids to row numbers costs more than sorting does.
_TABLE_ROWS = 1 << 28


@dataclass(frozen=True)
class Live:
    """What a recorded run ran with, and every call that its ledger got."""

    policy: str
    plan: Plan
    capacity_rows: int
    depth: int
    table_rows: int
    calls: list[tuple[str, int, Ids]]
    priors: list[Worth]


@dataclass
class Case:
    """A trace: minibatch t asks for rows ``ids[offsets[t]:offsets[t+1]]``, numbers into ``nodes``.

    ``nodes``: global ids. ``rows``: remote rows that there are, the most that a buffer could hold.
    ``halo``: 1 for rows of the 1-hop halo (None: not known); ``halo_rows``: how many (0: not known).
    ``priors``: worth of each row, by name. ``sampling``, ``training``: mean seconds (None: not recorded).
    """

    name: str
    ids: Ids
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


def as_prior(worth: Worth) -> _core.Prior:
    """For the core: worth as it is, or levels that worth was quantised to."""
    if worth.dtype == np.uint8:
        return _core.Prior.from_levels(worth.astype(np.uint8, copy=False))
    return _core.Prior.from_worth(worth.astype(np.float32, copy=False))


def find_traces(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Trace files: those named, and those in folders that are named.

    Raises ConfigError where there are none.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(path.rglob(f"*{trace.SUFFIX}")) or sorted(path.glob("*.npz"))
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
        read = trace.read(path)
    except OSError as error:
        raise FormatError(f"{path} cannot be read as a trace: {error}") from error
    return _of_arrays(path, read) if read.calls is None else _of_log(path, read, read.calls)


def _of_arrays(path: Path, read: trace.Trace) -> Case:
    assert read.nodes is not None
    nodes, halo_rows = read.nodes, read.num_halo or 0
    priors: dict[str, Worth] = {}
    for name, worth in (("vip", read.vip), ("degree", read.degree)):
        if worth is not None:
            priors[name] = np.ascontiguousarray(worth)
    for name, numbers in priors.items():
        if len(numbers) != len(nodes):
            raise FormatError(f"{path}: {name} has {len(numbers)} numbers for {len(nodes)} nodes")
    return Case(
        name=path.stem,
        ids=_numbers(read.ids, nodes),
        offsets=_checked(path, read),
        nodes=nodes,
        rows=len(nodes),
        halo_rows=halo_rows,
        halo=(np.arange(len(nodes)) < halo_rows).astype(np.float32),
        priors=priors,
    )


def _of_log(path: Path, read: trace.Trace, calls: list[trace.Call]) -> Case:
    header = read.header
    # Rows that were read without having been announced are requests like all others.
    asked: list[Ids] = []
    executed: list[int] = []  # where in `asked` each minibatch stands
    dropped: set[int] = set()
    foreseen: dict[int, Ids] = {}
    for call in calls:
        if call.name == "foresee":
            foreseen[call.number] = call.ids
        elif call.name == "execute":
            executed.append(len(asked))
            asked.append(foreseen.pop(call.number, call.ids))
        elif call.name == "read":
            asked.append(call.ids)
        elif call.name == "drop":
            foreseen.clear()
            dropped.update(executed.pop() for _ in range(min(call.number, len(executed))))
    asked = [each for place, each in enumerate(asked) if place not in dropped]
    ids = np.concatenate([np.empty(0, dtype=np.int64), *asked])
    nodes = np.unique(ids)
    try:
        live = Live(
            policy=header["policy"],
            plan=Plan.parse(header["plan"]),
            capacity_rows=int(header["capacity_rows"]),
            depth=int(header["depth"]),
            table_rows=int(header["rows"]),
            calls=[(call.name, call.number, call.ids) for call in calls],
            priors=list(read.priors),
        )
        priors: dict[str, Worth] = {}
        # What a caller gave in the place of VIP is taken for it.
        if live.priors and live.plan.prior in ("vip", "degree", "given"):
            priors["vip" if live.plan.prior == "given" else live.plan.prior] = live.priors[0][nodes]
        return Case(
            name=path.name[: -len(trace.SUFFIX)] if path.name.endswith(trace.SUFFIX) else path.name,
            ids=_numbers(ids, nodes),
            offsets=np.cumsum([0, *(len(each) for each in asked)], dtype=np.int64),
            nodes=nodes,
            rows=int(header["remote_rows"]),
            halo_rows=int(header["halo_rows"]),
            priors=priors,
            row_bytes=int(header["row_bytes"]),
            sampling=_mean(read.seconds[:, 0]),
            training=_mean(read.seconds[:, 2]),
            live=live,
            local_part=int(header["local_part"]),
            truncated=read.truncated,
        )
    except (KeyError, TypeError, IndexError) as error:
        raise FormatError(f"{path}: the header or a prior lacks what a replay needs ({error!r})") from error


def _checked(path: Path, read: trace.Trace) -> Ids:
    offsets = read.offsets
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(read.ids) or (np.diff(offsets) < 0).any():
        raise FormatError(
            f"{path}: offsets must ascend from 0 to the {len(read.ids)} ids; it may be truncated"
        )
    return np.ascontiguousarray(offsets)


def _numbers(ids: Ids, nodes: Ids) -> Any:
    """Positions of ``ids`` in ``nodes``, which has them all."""
    if len(ids) == 0:
        return np.empty(0, dtype=np.int32)
    top = int(nodes.max())
    if top < _TABLE_ROWS:
        table = np.empty(top + 1, dtype=np.int32)
        table[nodes] = np.arange(len(nodes), dtype=np.int32)
        return table[ids]
    order = np.argsort(nodes, kind="stable")
    return order[np.searchsorted(nodes, ids, sorter=order)]


def _mean(seconds: NDArray[np.float32]) -> float | None:
    known = seconds[np.isfinite(seconds)]
    return float(known.mean(dtype=np.float64)) if len(known) else None
