"""Recorded accesses as workloads: files of `rudder.record`, and traces as .npz.

A recorded run tells what its minibatches asked for, how long sampling and training took, its row size and its
memory. It does not tell three things:

**The link**: given, or estimated as the slowest on which the modelled run waits no longer for rows than the
recorded one did. Where that hardly waited, a faster link would explain it as well.
**Latency, blocks**: stand-ins, `LATENCY_S` and `BLOCK_BYTES_A_ROW`.

Training times hold the waits for the sampler, which are not recorded apart.

An .npz trace tells of no cost at all, nor does a recorded run without times: costs are then drawn from a
seed, as those of generated workloads are, and drift as the kind says.

Models learn from the first half of a trace and are compared on the second, so that no decision is in both,
whoever names which files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rudder.config import parse_bytes
from rudder.errors import ConfigError
from rudder.plan import Plan
from rudder.replay import read
from rudder.replay.load import Case, Live, find_traces, load_case
from rudder.rollout.generate import costed
from rudder.rollout.simulator import Simulator
from rudder.rollout.workload import Workload
from rudder.shadow.latency import ASSUMED_S

#: What may drift in costs that are drawn; what the accesses do is recorded.
KINDS = ("steady", "bandwidth", "memory")
#: The kind of a workload whose costs are recorded, too.
RECORDED = "recorded"
#: Seconds of a fetch beside its bytes.
LATENCY_S = ASSUMED_S
#: Of a minibatch's blocks: ids and a few edges of each remote row.
BLOCK_BYTES_A_ROW = 64.0
#: Seconds that computing a prior takes, in steps.
_REBUILD_STEPS = 2.0
# Bytes a second between which a link's speed is looked for, and how often the range of magnitudes is halved:
# to within 2%.
_SLOWEST, _FASTEST, _ROUNDS = 1e4, 1e12, 10
# Waiting so much of the time is none: clocks and threads take it.
_NO_WAIT = 0.002
_MOST_STEPS = 4096


@dataclass(frozen=True)
class Traces:
    """Which traces are workloads, and how."""

    #: Files, or folders of files.
    paths: tuple[Path, ...]
    #: Bytes a second of the link of recorded runs; None: estimated.
    link: float | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if self.link is not None and not self.link > 0:
            raise ConfigError(f"a link of {self.link} bytes a second: it must be above 0")

    @classmethod
    def named(cls, paths: Sequence[Path] | None, link: str | None = None) -> Traces | None:
        """As the command line has it; ``link``: a number of bytes, or text as "1GiB". None: no traces.

        Raises ConfigError.
        """
        if not paths and link is not None:
            raise ConfigError("a link is that of recorded runs: name them, too")
        return cls(tuple(paths), None if link is None else parse_bytes(link)) if paths else None

    def workloads(self, *, held_out: bool, seeds: Sequence[int], kinds: Sequence[str]) -> Iterator[Workload]:
        """Of every trace: with the costs of its run; else with costs drawn for each seed and kind.

        Raises ConfigError, FormatError.
        """
        for path in find_traces(self.paths):
            case = load_case(path)
            seconds = read.read(path).seconds
            part = _half(len(case), held_out=held_out)
            if case.live is not None and np.isfinite(seconds[:, 2]).any():
                yield self._of_run(case, case.live, seconds, part)
                continue
            base = _accesses(case, part)
            for seed in seeds:
                for kind in kinds:
                    if kind in KINDS:
                        yield drawn(base, kind, seed, held_out=held_out)

    def _of_run(self, case: Case, live: Live, seconds: NDArray[np.float32], part: range) -> Workload:
        speed = self.link
        if speed is None:
            whole = _timed(case, live, seconds, range(len(case)))
            plan = live.plan if live.plan.prior in whole.priors else live.plan.but(prior=whole.priors[0])
            speed = estimated_link(whole, plan, float(_filled(seconds[:, 1]).sum()))
        found = _timed(case, live, seconds, part)
        return replace(found, bandwidth=np.full(len(found), speed))


def drawn(base: Workload, kind: str, seed: int, *, held_out: bool) -> Workload:
    """The accesses with costs that follow from kind and seed."""
    chance = np.random.default_rng((seed, KINDS.index(kind), held_out))
    sizes = replace(base, row_bytes=int(chance.choice((400, 512, 1024, 2408))))
    requested = np.diff(base.offsets).astype(np.float64)
    work = requested / requested.mean()
    named = replace(sizes, name=f"{base.name}:{kind}:{seed}{'h' if held_out else ''}")
    return costed(named, kind, chance, work, held_out=held_out)


def estimated_link(workload: Workload, plan: Plan, waited: float) -> float:
    """Bytes a second of the slowest link on which the run, under ``plan``, waits ``waited`` seconds for rows.

    Where even the fastest has it wait longer, the fastest.
    """
    most = waited + _NO_WAIT * float(workload.compute_s.sum())
    low, high = _SLOWEST, _FASTEST
    for _ in range(_ROUNDS):
        middle = (low * high) ** 0.5
        if _waits(replace(workload, bandwidth=np.full(len(workload), middle)), plan) > most:
            low = middle
        else:
            high = middle
    return high


def _waits(workload: Workload, plan: Plan) -> float:
    """Seconds that the modelled run waits for rows."""
    simulator, whole, waited = Simulator(workload, plan, shadow=False), plan.but(interval=_MOST_STEPS), 0.0
    while not simulator.done:
        waited += simulator.step(whole).metrics.seconds_stalled_fetching
    return waited


def _timed(case: Case, live: Live, seconds: NDArray[np.float32], part: range) -> Workload:
    """Some minibatches of a recorded run, with its costs but for the link's."""
    base = _accesses(case, part)
    sampling, _, training = (_filled(seconds[:, place])[part.start : part.stop] for place in range(3))
    memory = live.capacity_rows * 100 // live.plan.buffer_share
    return replace(
        base,
        name=f"{base.name}:{RECORDED}:0",
        sampling_s=sampling,
        compute_s=training,
        latency_s=np.full(len(part), LATENCY_S),
        memory_rows=np.full(len(part), memory, dtype=np.int64),
        block_bytes=BLOCK_BYTES_A_ROW * np.diff(base.offsets).astype(np.float64),
        rebuild_s=_REBUILD_STEPS * float(training.mean()),
    )


def _half(minibatches: int, *, held_out: bool) -> range:
    """The first half; the second where ``held_out``."""
    middle = minibatches // 2
    return range(middle, minibatches) if held_out else range(middle)


def _accesses(case: Case, part: range) -> Workload:
    """What these minibatches asked for; costs nothing yet."""
    size, length = len(case.nodes), len(part)
    if length < 2 or size == 0:
        raise ConfigError(f"{case.name}: half of it has {length} minibatches: too few to be a workload")
    minibatches = [np.unique(case[number]).astype(np.int32) for number in part]
    nothing = np.zeros(length)
    none = np.zeros(size, dtype=np.float32)
    vip, degree = (case.priors.get(name, none).astype(np.float32) for name in ("vip", "degree"))
    return Workload(
        name=case.name,
        id_space=size,
        ids=np.concatenate(minibatches),
        offsets=np.cumsum([0, *map(len, minibatches)], dtype=np.int64),
        row_bytes=case.row_bytes or 1,
        degree=degree,
        vip=((0, vip),),
        rebuild_s=0.0,
        sampling_s=nothing,
        compute_s=nothing,
        bandwidth=nothing,
        latency_s=nothing,
        memory_rows=nothing.astype(np.int64),
        block_bytes=nothing,
        priors=(*(name for name in ("vip", "degree") if name in case.priors), "frequency", "none"),
    )


def _filled(seconds: NDArray[np.float32]) -> NDArray[np.float64]:
    """With the mean of the others where a minibatch's time was not recorded."""
    known = np.isfinite(seconds)
    mean = float(seconds[known].mean(dtype=np.float64)) if known.any() else 0.0
    return np.where(known, seconds, mean).astype(np.float64)
