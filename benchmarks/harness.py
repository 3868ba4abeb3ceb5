"""What the Python benchmarks share: skewed minibatches, and a command that measures, prints and stores."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rudder.source import Ids


def skew(rows: int) -> NDArray[np.float64]:
    """Chance of each rank: falls with the 0.7th power of the rank."""
    weight = 1 / np.arange(1, rows + 1) ** 0.7
    chances: NDArray[np.float64] = weight / weight.sum()
    return chances


def skewed_minibatches(count: int, rows: int, wanted: int) -> list[Ids]:
    """`wanted` ids each, repetitions among them; ranks lie scattered over the rows."""
    rng = np.random.default_rng(0)
    name = rng.permutation(rows)
    steps = np.cumsum(skew(rows))
    return [name[np.searchsorted(steps, rng.random(wanted) * steps[-1])] for _ in range(count)]


def run(
    description: str | None,
    option: str,
    default: int,
    measure: Callable[[int], dict[str, float]],
    verdict: Callable[[dict[str, float]], str],
) -> None:
    """Measure with the number that `option` gives, print the figures and the verdict, store them if asked."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(option, type=int, default=default, dest="number")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result = measure(arguments.number)
    for name, value in result.items():
        print(f"{name:30} {value:10.4f}")
    print(verdict(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
