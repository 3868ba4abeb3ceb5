"""Decisions of a GGUF file on this machine."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

from rudder.agent.prompt import plan_of, system_text
from rudder.agent.space import Space
from rudder.agent.worker.decider import probe
from rudder.agent.worker.llama import LlamaModel
from rudder.agent.worker.protocol import Ask
from rudder.agent.worker.settings import CONTEXT
from rudder.agent.worker.template import Prompts
from rudder.agent.worker.walk import decide
from rudder.plan import Plan

#: The first reading of a prompt may take long; it happens before anybody waits.
_PROBE_SECONDS = 60.0
#: A beginning of fewer tokens is read as quickly as it is brought back.
WORTH_KEEPING = 64


class LlamaDecider:
    """A GGUF file, by a walk through the plans."""

    def __init__(self, path: str, context: int = CONTEXT, threads: int = 1) -> None:
        """Load, read the system text once, time one decision. Raises FormatError, AgentError."""
        begin = time.monotonic()
        self._model = LlamaModel(path, context, threads)
        self._prompts = Prompts(self._model)
        loaded = time.monotonic()
        cold = self.decide(probe(1, _PROBE_SECONDS * 1000))[1]
        # Another line after the same system text: what a decision will cost from now on.
        warm = self.decide(probe(2, _PROBE_SECONDS * 1000))[1]
        self.report: dict[str, Any] = {
            **self._model.report(),
            "threads": threads,
            "template": self._prompts.source,
            "load_seconds": round(loaded - begin, 3),
            "first_decision_ms": cold["total_ms"],
            "decision_ms": warm["total_ms"],
            "prompt_tokens": warm["prompt_tokens"],
        }

    def decide(self, ask: Ask) -> tuple[Plan, dict[str, float]]:
        """Read what is new of the prompt, walk."""
        begin = time.monotonic()
        self._model.set_deadline(begin + ask.deadline_ms / 1000)
        system = _system(ask.space, ask.job)
        prompt = self._prompts.tokens(system, ask.evidence)
        last, reused = self._read(prompt, self._prompts.beginning(system))
        read = time.monotonic()
        plan = decide(self._model, ask.space, plan_of(ask.evidence), last)
        end = time.monotonic()
        return plan, {
            "prefill_ms": round(1000 * (read - begin), 3),
            "decode_ms": round(1000 * (end - read), 3),
            "total_ms": round(1000 * (end - begin), 3),
            "prompt_tokens": len(prompt),
            "reused_tokens": reused,
        }

    def _read(self, prompt: list[int], beginning: list[int]) -> tuple[list[int], int]:
        """What is left to read, and the number of tokens that were there."""
        if len(beginning) < WORTH_KEEPING or len(prompt) >= self._model.context:
            return self._model.read(prompt)
        there = self._model.begin_with(beginning)
        last, reused = self._model.read(prompt)
        return last, min(there, reused) if there < len(beginning) else reused

    def close(self) -> None:
        """Free the model."""
        self._model.close()


@lru_cache(maxsize=8)
def _system(space: Space, job: str) -> str:
    return system_text(space, job)
