"""Does llama.cpp compute from a file what torch computes from the weights, on the same tokens?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rudder.agent.examples import Example
from rudder.agent.space import Space

if TYPE_CHECKING:
    import numpy.typing as npt

    from rudder.pilot.model import Pilot

_F32 = 0  # ggml's number of the type


def largest_difference(pilot: Pilot, path: Path, prompts: Sequence[Sequence[int]]) -> float:
    """The largest difference of any logit at any place of the prompts, as a share of the largest logit.

    Of a file with F32 weights it is rounding alone: up to 6e-6, where torch's own logits differ from those in
    double precision by up to 3e-6. llama.cpp is told to keep keys and values as F32 and not to use flash
    attention, both of which round more than that.
    """
    import torch

    worst = 0.0
    for prompt in prompts:
        with torch.no_grad():
            ours = pilot(torch.tensor([list(prompt)]))[0].numpy()
        worst = max(worst, float(np.abs(ours - logits(path, prompt)).max() / np.abs(ours).max()))
    return worst


def logits(path: Path, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
    """What llama.cpp computes: [len(tokens), vocabulary]. Loads the file anew: for checks only."""
    import llama_cpp

    model = llama_cpp.Llama(
        str(path),
        n_ctx=max(64, len(tokens)),
        n_batch=max(64, len(tokens)),
        n_threads=1,
        n_threads_batch=1,
        logits_all=True,
        use_mmap=False,
        type_k=_F32,
        type_v=_F32,
        flash_attn=False,
        verbose=False,
    )
    model.eval(list(tokens))
    found = np.array(model.scores[: len(tokens)], dtype=np.float32)
    model.close()
    return found


def answers_right(path: Path, examples: Sequence[Example]) -> float:
    """The share of examples that the model in a GGUF file answers with the labelled plan.

    It walks as the agent's worker does, among plans with any prior.
    """
    from rudder.agent.worker.local import LlamaDecider
    from rudder.agent.worker.protocol import Ask

    decider = LlamaDecider(str(path))
    right = 0
    for number, one in enumerate(examples):
        space = Space(priors=("vip", "degree", "frequency", "none"), scores=one.best in ("y", "n"))
        plan, _ = decider.decide(Ask(number, one.line, space, 60_000.0))
        right += str(plan) == one.answer
    decider.close()
    return right / len(examples) if examples else 0.0
