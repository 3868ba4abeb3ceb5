"""From nothing to the GGUF file, step by step.

1. Drills: examples whose best answer their counterfactuals tell. They teach reading, comparing, writing.
2. Workloads are played in the simulator; each decision on the way is labelled with the plan that is best on
   what really comes next.
3. Training goes on with these.
4. The file is written, and what llama.cpp computes from it compared with torch.

Everything follows from the seed. With a folder to work in, steps whose files are there are not done again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from rudder.agent.examples import Example, read, write
from rudder.errors import StateError
from rudder.pilot import vocabulary
from rudder.pilot.batch import batch
from rudder.pilot.check import largest_difference
from rudder.pilot.drill import drill, paper_drill
from rudder.pilot.export import export
from rudder.pilot.gather import Amount, gather
from rudder.pilot.model import Pilot, Shape
from rudder.pilot.train import Quality, Schedule, quality, train
from rudder.rollout.recorded import Traces

#: Most that any logit of a file with F32 weights may differ from torch's, as a share of the largest one:
#: rounding is a third of it, a wrong weight or angle a thousand times.
TOLERANCE = 2e-5
_ROWS = 32


@dataclass(frozen=True)
class Recipe:
    """How much of everything. ``minutes`` sets it, on two free cores; it is work, not a limit of time."""

    seed: int = 1
    minutes: float = 20.0
    threads: int = 2
    shape: Shape = field(default_factory=Shape)
    #: Recorded accesses to learn from beside the generated ones, on top of the time.
    traces: Traces | None = None

    @property
    def drills(self) -> Schedule:
        """A tenth of the time."""
        return Schedule(max(20, round(20 * self.minutes)), _ROWS, rate=3e-3, seed=self.seed)

    @property
    def lessons(self) -> Schedule:
        """Two thirds of the time."""
        return Schedule(max(20, round(90 * self.minutes)), _ROWS, rate=1.5e-3, seed=self.seed + 1)

    @property
    def workloads(self) -> Amount:
        """A quarter of the time."""
        return Amount(max(2, round(25 * self.minutes)), self.seed, traces=self.traces)

    @property
    def held_out(self) -> Amount:
        """Other seeds: see `gather`."""
        return Amount(max(2, round(1.2 * self.minutes)), self.seed, held_out=True, traces=self.traces)


def make(
    recipe: Recipe,
    out: Path,
    *,
    work: Path | None = None,
    decisions: Path | None = None,
    tell: Callable[[str], None] = lambda words: None,
) -> Quality:
    """Write the model to ``out`` and the labelled decisions to ``decisions``; answers held-out quality.

    Raises StateError where llama.cpp computes something else from the file than torch from the weights.
    """
    with tempfile.TemporaryDirectory() as spare:
        place = work if work is not None else Path(spare)
        place.mkdir(parents=True, exist_ok=True)
        torch.set_num_threads(recipe.threads)
        drilled = drill(recipe.drills.steps * _ROWS, recipe.seed)
        tell(f"drills: {len(drilled)} examples")
        pilot = train(
            drilled,
            drill(500, recipe.seed + 1_000_003),
            recipe.drills,
            shape=recipe.shape,
            checkpoint=place / "drills.pt",
            tell=tell,
        )
        lessons = _gathered(place / "decisions.tsv", recipe.workloads, recipe, tell)
        held_out = _gathered(place / "held-out.tsv", recipe.held_out, recipe, tell)
        if decisions is not None:
            write(lessons, decisions)
        tell(f"lessons: {len(lessons)} decisions, {len(held_out)} held out")
        # Fresh drills among them: what they taught is not to be forgotten.
        count, seed = len(lessons), recipe.seed + 2_000_003
        mixed = [*lessons, *drill(count // 4, seed), *paper_drill(count // 4, seed)]
        pilot = train(
            mixed, held_out, recipe.lessons, start=pilot, checkpoint=place / "lessons.pt", tell=tell
        )
        found = quality(pilot, batch(held_out))
        _checked(pilot, place / "f32.gguf", held_out[:4])
        export(pilot, out, description=f"rudder pilot train, seed {recipe.seed}, minutes {recipe.minutes:g}")
    tell(f"{out}: held-out loss {found.loss:.4f}, {found.accuracy:.1%} of plans right")
    return found


def _gathered(path: Path, amount: Amount, recipe: Recipe, tell: Callable[[str], None]) -> list[Example]:
    if not path.exists():
        write(gather(amount, recipe.threads, tell), path)
    return read(path)


def _checked(pilot: Pilot, path: Path, examples: list[Example]) -> None:
    export(pilot, path, kind="f32")
    prompts = [vocabulary.prompt(one.line) + vocabulary.encode(one.answer) for one in examples]
    worst = largest_difference(pilot, path, prompts)
    if not worst < TOLERANCE:
        raise StateError(
            f"llama.cpp's logits differ from torch's by {worst:.1g} of the largest: another llama-cpp-python?"
        )
