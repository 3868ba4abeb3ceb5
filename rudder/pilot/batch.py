"""Examples as arrays of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rudder.agent.examples import Example
from rudder.pilot import vocabulary

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True)
class Batch:
    """Tokens [n, length] padded at the end, places of the answer [n, length], weights [n]."""

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
