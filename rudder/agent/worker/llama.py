"""A GGUF model in llama.cpp, through llama-cpp-python's plain C functions. For the worker process only.

One thread, no memory mapping (a file that shrinks would be a SIGBUS), a bounded context. Its tokens and their
keys and values stay in the context from one decision to the next, so that a prompt that begins like the last
one is read from where they part.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import llama_cpp.llama_cpp as llama

from rudder.agent.worker.protocol import LATE
from rudder.agent.worker.walk import Scores
from rudder.errors import AgentError, FormatError

# Tokens evaluated at once: a deadline is looked at between them, and buffers stay small.
BATCH = 64
# What llama.cpp wrote last; the reason of a failure is among it.
_LINES_KEPT = 40
_WARNING, _ERROR, _GOES_ON = 3, 4, 5
_ABORTED = 2  # llama_decode's answer
# Texts of answers whose tokens are kept; a walk asks for some thirty, most of them again the next time.
_TEXTS_KEPT = 4096
#: Beginnings of prompts whose keys and values are kept. Each takes memory as the context does.
BEGINNINGS = 4


# What llama.cpp said last, and who hears it. They live as long as the process: llama.cpp keeps the pointer
# when a model is gone, and would call into nothing at the next load.
_SAID: deque[str] = deque(maxlen=_LINES_KEPT)


def _hear(level: int, text: bytes, _: Any) -> None:
    if level in (_WARNING, _ERROR, _GOES_ON):
        _SAID.append(text.decode("utf-8", "replace"))


_LISTEN = llama.llama_log_callback(_hear)


class LlamaModel:
    """One model and its context. Used by one thread."""

    def __init__(self, path: str, context: int, threads: int = 1) -> None:
        """Load the file. Raises FormatError: llama.cpp cannot read it; AgentError: it cannot run it.

        ``context``: most tokens of a prompt with its answer; a model trained on less gets less.
        """
        _SAID.clear()
        self._deadline = float("inf")
        self._kept: list[int] = []
        self._texts: dict[str, list[int]] = {}
        self._beginnings: dict[tuple[int, ...], Any] = {}  # the one used last is the last
        llama.llama_log_set(_LISTEN, ctypes.c_void_p(0))
        llama.llama_backend_init()
        self.path = path
        self._model = self._load(path)
        self._vocab = llama.llama_model_get_vocab(self._model)
        self.context = min(context, llama.llama_model_n_ctx_train(self._model) or context)
        self._context = self._open(threads)
        self._memory = llama.llama_get_memory(self._context)
        self._batch = llama.llama_batch_init(BATCH, 0, 1)
        self.vocabulary = llama.llama_vocab_n_tokens(self._vocab)
        eot = llama.llama_vocab_eot(self._vocab)
        self.end = eot if eot >= 0 else max(0, llama.llama_vocab_eos(self._vocab))

    def report(self) -> dict[str, Any]:
        """What was loaded."""
        text = ctypes.create_string_buffer(256)
        llama.llama_model_desc(self._model, text, 256)
        return {
            "model": self.path,
            "description": text.value.decode("utf-8", "replace"),
            "parameters": llama.llama_model_n_params(self._model),
            "file_bytes": os.path.getsize(self.path),
            "context": self.context,
            "vocabulary": self.vocabulary,
            "llama_cpp_python": importlib.metadata.version("llama-cpp-python"),
        }

    @property
    def template(self) -> str | None:
        """The file's own chat template."""
        found = llama.llama_model_chat_template(self._model, None)
        return found.decode("utf-8", "replace") if found else None

    @property
    def bos(self) -> int | None:
        """The token that begins a text, where the model wants one."""
        token = llama.llama_vocab_bos(self._vocab)
        return token if token >= 0 and llama.llama_vocab_get_add_bos(self._vocab) else None

    def special_text(self, which: str) -> str:
        """Text of the token "bos" or "eos", for templates; "" where there is none."""
        find = llama.llama_vocab_bos if which == "bos" else llama.llama_vocab_eos
        token = find(self._vocab)
        found = llama.llama_vocab_get_text(self._vocab, token) if token >= 0 else b""
        return found.decode("utf-8", "replace")

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Tokens of a text alone. ``special``: names of special tokens mean these tokens."""
        data = text.encode("utf-8")
        room = len(data) + 8
        found = (llama.llama_token * room)()
        count = llama.llama_tokenize(self._vocab, data, len(data), found, room, False, special)
        if count < 0:
            raise AgentError(f"the model's vocabulary cannot write {text[:40]!r}")
        return list(found[:count])

    def tokens(self, text: str) -> list[int]:
        """Tokens of an answer's beginning."""
        known = self._texts.get(text)
        if known is None:
            if len(self._texts) >= _TEXTS_KEPT:
                self._texts.clear()
            known = self._texts[text] = self.tokenize(text, special=False)
        return known

    def spelled(self, tokens: Sequence[int]) -> str:
        """What tokens spell, spaces at the beginning left out."""
        text = b""
        piece = ctypes.create_string_buffer(256)
        for token in tokens:
            count = llama.llama_token_to_piece(self._vocab, token, piece, len(piece), 0, False)
            text += piece.raw[: max(0, count)]
        return text.decode("utf-8", "replace").lstrip(" ")

    def set_deadline(self, at: float) -> None:
        """Evaluations fail that would go on beyond ``at`` (`time.monotonic`)."""
        self._deadline = at

    def begin_with(self, first: Sequence[int]) -> int:
        """Have the keys and values of these tokens, which a prompt begins with; the number that was there.

        Those of the last few beginnings are kept apart, so that trainers with texts of their own take turns
        without reading theirs anew. Raises AgentError.
        """
        key = tuple(first)
        if tuple(self._kept[: len(key)]) == key:
            return len(key)
        saved = self._beginnings.pop(key, None)
        if saved is not None and self._restored(saved, key):
            self._beginnings[key] = saved
            return len(key)
        same = self._part(first)
        self._evaluate(first[same:])
        while len(self._beginnings) >= BEGINNINGS:
            del self._beginnings[next(iter(self._beginnings))]
        size = llama.llama_state_seq_get_size(self._context, 0)
        state = (ctypes.c_uint8 * size)()
        if llama.llama_state_seq_get_data(self._context, state, size, 0) == size:
            self._beginnings[key] = state
        return same

    def _restored(self, saved: Any, tokens: tuple[int, ...]) -> bool:
        llama.llama_memory_clear(self._memory, True)
        done = bool(llama.llama_state_seq_set_data(self._context, saved, len(saved), 0) == len(saved))
        self._kept = list(tokens) if done else []
        if not done:
            llama.llama_memory_clear(self._memory, True)
        return done

    def _part(self, prompt: Sequence[int]) -> int:
        """Go back to where ``prompt`` parts from what was read last: so many tokens are there."""
        same = 0
        for old, new in zip(self._kept, prompt):
            if old != new:
                break
            same += 1
        return same if self._memory_cut(same) else 0

    def read(self, prompt: Sequence[int]) -> tuple[list[int], int]:
        """Go back to where ``prompt`` parts from what was read last, and read what fills batches from there.

        Answers its last tokens, at least one, which are left to be read with what must follow them, and the
        number that was there already. Raises AgentError.
        """
        if len(prompt) >= self.context:
            raise AgentError(
                f"a prompt of {len(prompt)} tokens does not fit into the context of {self.context}: use a"
                " model with a larger one"
            )
        same = self._part(prompt[:-1])
        left = same + (len(prompt) - 1 - same) // BATCH * BATCH
        self._evaluate(prompt[same:left])
        return list(prompt[left:]), same

    def feed(self, tokens: Sequence[int]) -> Scores:
        """Append tokens and return the scores of the next one; they hold until the next call."""
        self._evaluate(tokens, scores=True)
        scores: Scores = llama.llama_get_logits_ith(self._context, -1)
        return scores

    def close(self) -> None:
        """Free everything."""
        llama.llama_batch_free(self._batch)
        llama.llama_free(self._context)
        llama.llama_model_free(self._model)

    def _load(self, path: str) -> Any:
        wanted = llama.llama_model_default_params()
        wanted.n_gpu_layers = 0
        if hasattr(wanted, "load_mode"):
            wanted.load_mode = llama.LLAMA_LOAD_MODE_NONE
        else:  # of an older llama-cpp-python, as pyproject.toml allows it
            wanted.use_mmap = False
        model = llama.llama_model_load_from_file(os.fsencode(path), wanted)
        if not model:
            raise FormatError(f"{path} is no model that llama.cpp can load: {self._reason()}")
        return model

    def _open(self, threads: int) -> Any:
        wanted = llama.llama_context_default_params()
        wanted.n_ctx = self.context
        wanted.n_batch = wanted.n_ubatch = BATCH
        wanted.n_threads = wanted.n_threads_batch = threads
        wanted.no_perf = True
        self._abort = llama.ggml_abort_callback(self._late)
        wanted.abort_callback = self._abort
        context = llama.llama_init_from_model(self._model, wanted)
        if not context:
            raise AgentError(f"llama.cpp cannot run {self.path}: {self._reason()}")
        return context

    def _memory_cut(self, length: int) -> bool:
        """Keep the first ``length`` tokens; where the model cannot go back (recurrent ones), keep none."""
        done = bool(llama.llama_memory_seq_rm(self._memory, 0, length, -1))
        if not done:
            llama.llama_memory_clear(self._memory, True)
        del self._kept[length if done else 0 :]
        return done

    def _evaluate(self, tokens: Sequence[int], scores: bool = False) -> None:
        for begin in range(0, len(tokens), BATCH):
            self._decode(tokens[begin : begin + BATCH], scores and begin + BATCH >= len(tokens))

    def _decode(self, tokens: Sequence[int], scores: bool) -> None:
        if len(self._kept) + len(tokens) > self.context:
            raise AgentError(f"the answer does not fit into the context of {self.context} tokens")
        batch, first = self._batch, len(self._kept)
        batch.n_tokens = len(tokens)
        for place, token in enumerate(tokens):
            batch.token[place] = token
            batch.pos[place] = first + place
            batch.n_seq_id[place] = 1
            batch.seq_id[place][0] = 0
            batch.logits[place] = False
        batch.logits[len(tokens) - 1] = scores
        result = llama.llama_decode(self._context, batch)
        if result == 0:
            self._kept += tokens
            return
        self._memory_cut(first)  # what was read before is still good
        if result == _ABORTED:
            raise AgentError(LATE)
        raise AgentError(f"llama.cpp failed ({result}): {self._reason()}")

    def _late(self, _: Any) -> bool:
        return time.monotonic() > self._deadline

    def _reason(self) -> str:
        lines = [line for line in "".join(_SAID).splitlines() if line.strip(" .")]
        return "; ".join(lines[-3:]) or "it does not say why"
