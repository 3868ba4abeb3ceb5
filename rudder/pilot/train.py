"""Training the pilot on labelled decisions: plain torch on a CPU, the same result for the same seed.

How long to train is counted in steps, never in seconds, so that a slower machine makes the same model later.
A checkpoint written on the way lets a training that was ended go on to the same result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rudder.agent.examples import Example
from rudder.pilot.batch import Batch, batch
from rudder.pilot.model import Pilot, Shape

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Schedule:
    """How to train."""

    steps: int
    rows: int = 64
    rate: float = 3e-3
    warm_up: int = 100
    decay: float = 0.05
    seed: int = 1
    #: Steps between two looks at the held-out examples, and between two checkpoints.
    every: int = 200


@dataclass(frozen=True)
class Quality:
    """On held-out examples: loss of an answer's token, and the share of answers that are right throughout."""

    loss: float
    accuracy: float


def train(
    examples: Sequence[Example],
    held_out: Sequence[Example],
    schedule: Schedule,
    *,
    start: Pilot | None = None,
    shape: Shape | None = None,
    checkpoint: Path | None = None,
    tell: Tell = lambda words: None,
) -> Pilot:
    """A trained pilot. ``start``: go on from this one; ``checkpoint``: from this file, where it exists."""
    torch.manual_seed(schedule.seed)
    pilot = start if start is not None else Pilot(shape or Shape())
    matrices = [weight for weight in pilot.parameters() if weight.ndim == 2]
    vectors = [weight for weight in pilot.parameters() if weight.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": schedule.decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=schedule.rate, betas=(0.9, 0.98))
    first = _resume(checkpoint, pilot, optimizer)
    order = _Order(len(examples), schedule)
    data = batch(examples)
    check = batch(held_out)
    running = 0.0
    for step in range(first, schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = _rate(step, schedule)
        loss = _loss(pilot, data.part(order.rows(step)))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(pilot.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        running += 0.05 * (loss.item() - running) if step > first else loss.item()
        if (step + 1) % schedule.every == 0 or step + 1 == schedule.steps:
            found = quality(pilot, check)
            tell(
                f"step {step + 1} of {schedule.steps}: loss {running:.4f}, held out {found.loss:.4f},"
                f" {found.accuracy:.1%} of plans right"
            )
            _save(checkpoint, pilot, optimizer, step + 1)
    return pilot


def quality(pilot: Pilot, data: Batch, rows: int = 128) -> Quality:
    """Of given examples, each answer token after the right ones before it."""
    losses, right = [], []
    with torch.no_grad():
        for begin in range(0, len(data.weights), rows):
            part = data.part(np.arange(begin, min(begin + rows, len(data.weights))))
            asks = torch.from_numpy(part.asks)
            wanted = torch.from_numpy(part.tokens).roll(-1, dims=1)
            logits = pilot(torch.from_numpy(part.tokens), asks)
            losses.append(functional.cross_entropy(logits, wanted[asks], reduction="none"))
            hits = torch.ones_like(wanted, dtype=torch.bool)
            hits[asks] = logits.argmax(dim=-1) == wanted[asks]
            right.append(hits.all(dim=1))
    return Quality(float(torch.cat(losses).mean()), float(torch.cat(right).float().mean()))


def _loss(pilot: Pilot, part: Batch) -> Tensor:
    asks = torch.from_numpy(part.asks)
    tokens = torch.from_numpy(part.tokens)
    logits = pilot(tokens, asks)
    each = functional.cross_entropy(logits, tokens.roll(-1, dims=1)[asks], reduction="none")
    weights = torch.from_numpy(part.weights)[:, None].expand(asks.shape)[asks]
    total: Tensor = (each * weights).sum() / weights.sum()
    return total


class _Order:
    """Which rows a step takes: every row once in an epoch, shuffled anew in each."""

    def __init__(self, count: int, schedule: Schedule) -> None:
        self._count, self._rows, self._seed = count, min(schedule.rows, count), schedule.seed
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def rows(self, step: int) -> np.ndarray:
        each = self._count // self._rows
        epoch, place = divmod(step, each)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng((self._seed, epoch)).permutation(self._count)
        return self._order[place * self._rows : (place + 1) * self._rows]


def _rate(step: int, schedule: Schedule) -> float:
    """Up in a line, down in a cosine to a tenth."""
    if step < schedule.warm_up:
        return schedule.rate * (step + 1) / schedule.warm_up
    done = (step - schedule.warm_up) / max(1, schedule.steps - schedule.warm_up)
    return schedule.rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done)))


def _resume(path: Path | None, pilot: Pilot, optimizer: torch.optim.Optimizer) -> int:
    if path is None or not path.exists():
        return 0
    found = torch.load(path, weights_only=True)
    pilot.load_state_dict(found["pilot"])
    optimizer.load_state_dict(found["optimizer"])
    return int(found["step"])


def _save(path: Path | None, pilot: Pilot, optimizer: torch.optim.Optimizer, step: int) -> None:
    if path is None:
        return
    fresh = path.with_suffix(".new")
    torch.save({"pilot": pilot.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, fresh)
    fresh.replace(path)  # whole or not at all
