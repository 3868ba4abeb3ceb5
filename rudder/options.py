"""Everything that may be chosen when a tensor is attached, as one value."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from rudder.agent.controller import ControllerLike, check_controller
from rudder.config import ENV_CONTROLLER, ENV_SHARE_MEMORY, Capacity
from rudder.errors import ConfigError
from rudder.gpu import GpuLike
from rudder.meter import MetricsCallback
from rudder.plan import PRIORS, Plan
from rudder.policies import PolicySettings, check_prior, own_prior

#: What to do with rows that differ from the stock pull: nothing (no comparison), raise VerifyError, or
#: count them.
Verify = Union[bool, str]
PriorLike = Union[str, NDArray[np.floating[Any]], None]
#: Leaves the prior to the policy.
OWN = "own"
# Other words for priors. With rows worth alike, lookahead lets go first of the one that was requested longest
# ago.
_SAME = {"recency": "none"}


@dataclass(frozen=True)
class Options:
    """Settings of one `Prefetcher`. Raises ConfigError for values that cannot work."""

    #: Rows that the buffer holds: a fraction of the halo, rows, or memory ("2GiB").
    capacity: Capacity = 0.25
    #: Replacement policy, see `rudder._core.policy_names()`.
    policy: str = "lookahead"
    #: Settings that only some policies have.
    policy_settings: PolicySettings = field(default_factory=PolicySettings)
    #: Worth beyond the window: a name of `rudder.plan.PRIORS` ("recency" is another word for "none"), an
    #: array with one number >= 0 per row of the table, or "own": what the policy ranks rows by (degree for
    #: static-degree and score, its own count for static-frequency, else VIP). The static policies take no
    #: other name. Score never puts in rows beyond the halo, whatever they are worth.
    prior: PriorLike = OWN
    #: The plan to start with; its `prior` is overruled by the option of that name.
    plan: Plan = field(default_factory=Plan)
    #: A name of `rudder.agent.controller.CONTROLLERS`, or an object with ``decide(evidence) -> Plan``. By
    #: default the one that RUDDER_CONTROLLER names, else "default".
    controller: ControllerLike = field(default_factory=lambda: os.environ.get(ENV_CONTROLLER) or "default")
    #: Of the agent: a GGUF file, or the address of a model server. None: the file that RUDDER_AGENT_MODEL
    #: names, else the model that comes with the package. Of a classifier: labelled decisions.
    agent_model: str | os.PathLike[str] | None = None
    #: Put the default plan back where a shadow of the run says that the controller's plans are slower, and
    #: let a controller sleep that costs more than it gains.
    guard: bool = True
    #: Share of the run's time that the shadow may take on the trainer's thread; what other plans would take
    #: is modelled the less often, the less there is. 0: once. 1: after every interval, whatever that takes.
    shadow_share: float = 0.004
    #: Let the trainers of a host trade memory of their buffers (docs/steering.md). It needs a controller, and
    #: trainers that all have it. By default where RUDDER_SHARE_MEMORY is "1".
    share_memory: bool = field(default_factory=lambda: os.environ.get(ENV_SHARE_MEMORY) == "1")
    #: Seconds until a fetch that got no answer fails. Where there are fallback transports, each gets an
    #: equal share of what is left when its turn comes; giving up one of them in the midst of rows may take
    #: up to a second on top.
    deadline: float = 30.0
    #: Bound on fetched rows that wait for their minibatch, in bytes or as text ("256MiB").
    staging: int | str = "256MiB"
    #: GPU that reads the rows: "cuda", "cuda:1", or one of `rudder.gpu.open_gpu`. ``table[ids]`` is then a
    #: tensor there. None: rows stay in main memory. How many of them GPU memory holds, too, is the plan's
    #: `device_share`.
    device: GpuLike | None = None
    #: Threads that copy rows into a batch, the trainer's own counted.
    threads: int = 1
    #: True or "raise": compare each batch with the stock pull and raise VerifyError; "count": count what
    #: differs.
    verify: Verify = False
    #: Estimate from a sample of the accesses how many times the rows of MIN were moved; see `rudder.gap`.
    gap_meter: bool = True
    #: Folder for metrics; by default the one that RUDDER_OUT names, if any.
    metrics_dir: str | os.PathLike[str] | None = None
    #: Called with the `IntervalMetrics` of every interval.
    on_metrics: MetricsCallback | None = None
    #: Folder for the record of accesses; by default the one that RUDDER_RECORD names, if any.
    record: str | os.PathLike[str] | None = None
    #: Number of this trainer, for the names of files.
    rank: int = 0

    def __post_init__(self) -> None:
        """Check what can be checked without the table."""
        if isinstance(self.prior, str) and self.prior not in (OWN, *_SAME, *PRIORS):
            raise ConfigError(f"prior {self.prior!r}: use {', '.join((OWN, *_SAME, *PRIORS))}, or an array")
        check_prior(self.policy, self.first_plan.prior)
        if self.verify not in (False, True, "raise", "count"):
            raise ConfigError(f"verify={self.verify!r}: use False, True (same as 'raise') or 'count'")
        if self.device is None and self.plan.device_share:
            raise ConfigError(f"the plan's device_share of {self.plan.device_share} % needs device='cuda'")
        if self.plan.share != 100:
            raise ConfigError(
                f"the plan's share of {self.plan.share} %: a trainer begins with all of its own memory"
            )
        if not self.deadline > 0:
            raise ConfigError(f"deadline of {self.deadline} s: it must be above 0")
        if not 0 <= self.shadow_share <= 1:
            raise ConfigError(f"shadow_share of {self.shadow_share}: it must be 0 to 1, a share of the time")
        check_controller(self.controller)

    @property
    def first_plan(self) -> Plan:
        """The plan to start with."""
        if self.prior is None:
            return self.plan.but(prior="none")
        if not isinstance(self.prior, str):
            return self.plan.but(prior="given")
        name = own_prior(self.policy) if self.prior == OWN else self.prior
        return self.plan.but(prior=_SAME.get(name, name))
