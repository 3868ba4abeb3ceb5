"""Labelled decisions: an evidence line and the plan that would have been best. As JSON lines on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rudder.agent.prompt import plan_of
from rudder.errors import FormatError
from rudder.pilot import vocabulary
from rudder.plan import Plan

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True)
class Example:
    """One decision."""

    #: As `rudder.agent.prompt.evidence_text` writes it.
    line: str
    #: Text of the best plan.
    answer: str
    #: What the best plan gains against the plan in force, as a share of its modelled time; >= 0.
    gain: float = 0.0
    #: How much this decision counts in training.
    weight: float = 1.0
    #: Where it comes from: "kind:seed" of a workload, or "drill".
    source: str = "drill"


def write(examples: Iterable[Example], path: Path) -> None:
    """One JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        for example in examples:
            file.write(json.dumps(asdict(example)) + "\n")


def read(path: Path) -> list[Example]:
    """The examples of a file. Raises FormatError."""
    found = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            example = Example(**json.loads(line))
            plan_of(example.line)
            Plan.parse(example.answer)
            found.append(example)
    except (OSError, ValueError, TypeError) as error:
        raise FormatError(f"{path}: no file of labelled decisions: {error}") from None
    return found


def signals_of(line: str) -> dict[str, int]:
    """The numbers of an evidence line, by their keys."""
    words = line.partition(" | ")[2].split(" ")
    return {key: int(value) for key, _, value in (word.rpartition(":") for word in words if word)}


@dataclass(frozen=True)
class Batch:
    """Examples as arrays: tokens [n, length] padded at the end, places of the answer, weights [n]."""

    tokens: npt.NDArray[np.int64]
    #: Places whose *next* token belongs to the answer.
    asks: npt.NDArray[np.bool_]
    weights: npt.NDArray[np.float32]

    def part(self, rows: npt.NDArray[np.int64]) -> Batch:
        """Some of the rows, cut to the longest of them."""
        asks = self.asks[rows]
        length = int(np.flatnonzero(asks.any(axis=0))[-1]) + 2
        return Batch(self.tokens[rows, :length], asks[:, :length], self.weights[rows])


def batch(examples: Sequence[Example]) -> Batch:
    """Tokens of prompts and answers, each closed by the end token."""
    end = vocabulary.IDS[vocabulary.END]
    prompts = [vocabulary.prompt(example.line) for example in examples]
    wholes = [
        [*prompt, *vocabulary.encode(example.answer), end] for prompt, example in zip(prompts, examples)
    ]
    tokens = np.full((len(wholes), max(map(len, wholes))), end, dtype=np.int64)
    asks = np.zeros(tokens.shape, dtype=bool)
    for row, (prompt, whole) in enumerate(zip(prompts, wholes)):
        tokens[row, : len(whole)] = whole
        asks[row, len(prompt) - 1 : len(whole) - 1] = True
    return Batch(tokens, asks, np.array([example.weight for example in examples], dtype=np.float32))
