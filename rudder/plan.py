"""The plan: everything a controller may steer, as an immutable value with bounds, steps and one text form.

A plan holds for one interval; a controller answers with the next one at each interval's end. The text form
is short and canonical (every plan has exactly one), so that a language model can write it and a grammar can
list it::

    v1 w=4 d=2 m=100 s=100 p=vip h=0 b=0 i=32 r=1 f=100

===  ==============  =============================================================  =================
key  field           meaning                                                        values
===  ==============  =============================================================  =================
w    `window`        sample ahead until so many buffers of remote requests wait     0 to 16, by 0.25
d    `depth`         minibatches fetched ahead of the one in use                    1 to 64
m    `buffer_share`  percent of the memory given to buffered rows; the rest goes    10 to 100, by 5
                     to the waiting blocks, on top of the loader's own bound
s    `share`         percent of its own memory that this trainer takes; what one gives   25 to 200, by 5
                     up another trainer of the host may take
p    `prior`         worth of a row beyond the window                               `PRIORS`
h    `half_life`     minibatches after which an access counts half ("frequency");   0 to 65536
                     0: never
b    `rebuild`       compute the prior anew before the next interval                0, 1
i    `interval`      minibatches until the next decision                            4 to 4096, by 4
r    `replace`       the paper's yes or no to replacement in the next interval      0, 1
f    `fraction`      percent of the buffer that one replacement may exchange        5 to 100, by 5
g    `device_share`  percent of the buffered rows that GPU memory holds, too: those  0 to 100, by 5
                     that the policy ranks best; left out of the text where it is 0
===  ==============  =============================================================  =================
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import Any

from rudder.errors import ConfigError

#: Where a row's worth beyond the window comes from: vertex-inclusion probability, degree, accesses counted
#: in this run, the array that the caller gave, or nothing (every row alike).
PRIORS = ("vip", "degree", "frequency", "given", "none")

_VERSION = "v1"
#: Fields by their letter in the text form, in its order.
KEYS = {
    "w": "window",
    "d": "depth",
    "m": "buffer_share",
    "s": "share",
    "p": "prior",
    "h": "half_life",
    "b": "rebuild",
    "i": "interval",
    "r": "replace",
    "f": "fraction",
}
# Written after those, where it is not 0: machines without a GPU, and their models, do without it.
OPTIONAL = {"g": "device_share"}
# low, high, step of every number.
BOUNDS: dict[str, tuple[float, float, float]] = {
    "window": (0, 16, 0.25),  # beyond 4 buffers the row count no longer falls; 16 leaves room to see that
    "depth": (1, 64, 1),  # more than 64 minibatches of staged rows would be a second buffer
    "buffer_share": (10, 100, 5),
    "share": (25, 200, 5),
    "device_share": (0, 100, 5),
    "half_life": (0, 65536, 1),
    "interval": (4, 4096, 4),  # below 4 minibatches an interval's rates are noise
    "fraction": (5, 100, 5),
}
_NUMBER = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True)
class Plan:
    """One interval's settings. Raises ConfigError for a value outside its bounds or off its step."""

    window: float = 4.0
    depth: int = 2
    buffer_share: int = 100
    share: int = 100
    prior: str = "vip"
    half_life: int = 0
    rebuild: bool = False
    interval: int = 32
    replace: bool = True
    fraction: int = 100
    device_share: int = 0

    def __post_init__(self) -> None:
        """Check every field; whole numbers are taken as either int or float."""
        for name, (low, high, step) in BOUNDS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ConfigError(f"plan: {name} must be a number, not {value!r}")
            if not low <= value <= high or (value / step) != int(value / step):
                raise ConfigError(f"plan: {name} is {value}; it must be {low} to {high} in steps of {step}")
            object.__setattr__(self, name, float(value) if name == "window" else int(value))
        if self.prior not in PRIORS:
            raise ConfigError(f"plan: prior is {self.prior!r}; it must be one of {', '.join(PRIORS)}")
        for name in ("rebuild", "replace"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"plan: {name} must be True or False, not {getattr(self, name)!r}")

    def __str__(self) -> str:
        """The canonical text form."""
        present = {**KEYS, **OPTIONAL} if self.device_share else KEYS
        words = (f"{key}={written(getattr(self, name))}" for key, name in present.items())
        return " ".join([_VERSION, *words])

    @classmethod
    def parse(cls, text: str) -> Plan:
        """The plan whose text form is exactly ``text``; raises ConfigError for any other text."""
        words = text.split(" ")
        if words[0] != _VERSION:
            raise ConfigError(f"plan text {text!r}: must start with {_VERSION!r}")
        pairs = [word.partition("=") for word in words[1:]]
        keys = [key for key, _, _ in pairs]
        if keys not in ([*KEYS], [*KEYS, *OPTIONAL]):
            raise ConfigError(
                f"plan text {text!r}: must give {' '.join(KEYS)}, each once, in this order"
                f" (and {' '.join(OPTIONAL)} after them, where it is not 0)"
            )
        names = {**KEYS, **OPTIONAL}
        plan = cls(**{names[key]: _read(names[key], value) for key, _, value in pairs})
        if str(plan) != text:
            raise ConfigError(f"plan text {text!r}: is not canonical; write {str(plan)!r}")
        return plan

    def works_like(self, other: Plan) -> bool:
        """In force, does it move the same rows? How often decisions are made, and that a prior was computed
        when it came, change nothing about that.
        """
        return self.but(rebuild=False, interval=other.interval) == other.but(rebuild=False)

    def but(self, **changes: Any) -> Plan:
        """A copy with some fields changed, each number brought to the nearest allowed value."""
        known = {field.name for field in fields(self)}
        for name in changes:
            if name not in known:
                raise ConfigError(f"plan: there is no {name!r}; there are {', '.join(sorted(known))}")
        return replace(self, **{name: nearest(name, value) for name, value in changes.items()})


def nearest(name: str, value: Any) -> Any:
    """The allowed value of a field that is closest to ``value``; what is no number stays as it is."""
    if name not in BOUNDS:
        return value
    low, high, step = BOUNDS[name]
    return min(max(round(value / step) * step, low), high)


def written(value: float | int | bool | str) -> str:
    """A field as the text form has it."""
    if isinstance(value, str):
        return value
    number = float(value)
    return str(int(number)) if number.is_integer() else str(number)


def _read(name: str, text: str) -> Any:
    if name == "prior":
        return text
    if name in ("rebuild", "replace"):
        if text not in ("0", "1"):
            raise ConfigError(f"plan text: {name} is {text!r}; it must be 0 or 1")
        return text == "1"
    if _NUMBER.fullmatch(text) is None:
        raise ConfigError(f"plan text: {name} is {text!r}; it must be a number")
    return float(text) if "." in text else int(text)
