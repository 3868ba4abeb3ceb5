"""What a run and a replay must both know of policies: settings beyond the capacity, and priors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rudder.errors import ConfigError

LOOKAHEAD, SCORE, STATIC_FREQUENCY = "lookahead", "score", "static-frequency"

# What policies rank rows by; all others take VIP, which lookahead needs and a record keeps for other replays.
_OWN_PRIORS = {
    "static-degree": "degree",
    STATIC_FREQUENCY: "frequency",
    SCORE: "degree",  # as MassiveGNN fills its buffer; without `prefill` only who is a candidate matters
}
_ANY = "vip"
# Policies that are about one prior: with another, they would be another policy.
_FIXED = "static-"
# The most that the core's integers hold.
_LARGEST_PERIOD = 2**32 - 1


@dataclass(frozen=True)
class PolicySettings:
    """What some policies can be told beyond capacity and prior; the others ignore it. Raises ConfigError."""

    #: static-*, score: begin with the rows of highest worth, fetched for that alone.
    prefill: bool = False
    #: static-frequency: minibatches with remote rows to count until its set is fixed. None: a first epoch (in
    #: a replay, which knows of no epochs, a tenth of the trace).
    observe: int | None = None
    #: score: replace every so many minibatches while the plan says `replace`; 0: when the controller says so,
    #: once at each interval's end (in a replay, which has no controller, at every one).
    period: int = 32
    #: score: share of its score that a buffered row loses in a minibatch that does not request it.
    alpha: float = 0.05

    def __post_init__(self) -> None:
        """Check every field."""
        if not isinstance(self.prefill, bool):
            raise ConfigError(f"prefill must be True or False, not {self.prefill!r}")
        if self.observe is not None and self.observe < 1:
            raise ConfigError(f"observe of {self.observe}: count at least 1 minibatch, or leave it out")
        if not 0 <= self.period <= _LARGEST_PERIOD:
            raise ConfigError(f"period of {self.period}: it must be 0 minibatches (on demand) or more")
        if not 0.0 < self.alpha < 1.0:
            raise ConfigError(f"alpha of {self.alpha}: it must lie between 0 and 1")

    def for_core(self) -> dict[str, Any]:
        """As the core's functions take them."""
        return {
            "prefill": self.prefill,
            "observe": self.observe or 0,
            "period": self.period,
            "alpha": self.alpha,
        }


def own_prior(policy: str) -> str:
    """The prior, by the name that plans use, that a policy gets where none is asked for."""
    return _OWN_PRIORS.get(policy, _ANY)


def needs_own_prior(policy: str) -> bool:
    """Is the policy about its own prior, so that it can do with no other?"""
    return policy.startswith(_FIXED)


def check_prior(policy: str, prior: str) -> None:
    """Raise ConfigError for a prior that would make the policy another one; an array never does."""
    if needs_own_prior(policy) and prior not in (own_prior(policy), "given"):
        raise ConfigError(
            f"policy {policy} ranks rows by {own_prior(policy)}, not by {prior}: leave the prior out, give an"
            " array of numbers, or choose another policy"
        )


def among(worth: NDArray[np.float32], candidates: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Worth for `score`: above 0 for every candidate, 0 for all other rows, which are never put in."""
    least = np.float32(np.finfo(np.float32).tiny)
    chosen: NDArray[np.float32] = np.where(candidates, np.maximum(worth, least), np.float32(0))
    return chosen
