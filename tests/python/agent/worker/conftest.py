"""Tiny GGUF files of random weights, and a keeper played by the test, which sees and says what it likes."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rudder.agent.evidence import Evidence
from rudder.agent.prompt import system_text
from rudder.agent.space import Space
from rudder.agent.worker.channel import Channel
from rudder.agent.worker.protocol import VERSION, Ask, Hello, Message
from rudder.metrics import IntervalMetrics
from rudder.plan import Plan

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "[INST]{{ m['content'] }}[/INST]{% endfor %}"
)
# As the shipped pilot's: no system text, each piece of a plan one token.
PILOT = "{% for m in messages %}{% if m['role'] == 'user' %}<s>{{ m['content'] }}</s>{% endif %}{% endfor %}"
PIECES = ("v1", *(f" {key}=" for key in "wdmsphbirf"), "vip", "degree", "frequency", "none", "given", " | ")
NUMBERS = tuple(str(number) for number in range(10, 1000))
HEADS = 4
SPACE = Space(priors=("vip", "degree", "frequency", "none"))


def write_model(
    path: Path,
    seed: int = 0,
    *,
    words: tuple[str, ...] = (),
    template: str | None = CHATML,
    space_prefix: bool = False,
    context: int = 4096,
    layers: int = 2,
    width: int = 64,
    scale: float = 0.3,
    poison: bool = False,
    bpe: bool = False,
    prose: tuple[str, ...] = (),
) -> Path:
    """A small llama. ``words``: tokens of their own. ``poison``: weights that are NaN. ``prose``: tokens of
    their own that it wants to say next, whatever it has read.
    """
    import gguf

    writer = gguf.GGUFWriter(str(path), "llama")
    texts = _bpe(writer) if bpe else _spm(writer, (*words, *prose), space_prefix)
    count, says = len(texts), [texts.index(word) for word in prose]
    rng = np.random.default_rng(seed)

    def tensor(*shape: int) -> np.ndarray:
        values = rng.normal(0, scale, shape).astype(np.float32)
        return np.full_like(values, np.nan) if poison else values

    def constant(values: np.ndarray) -> np.ndarray:
        """Weights of a layer that leave the first number of a state as it is."""
        values[0] *= not prose
        return values

    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // HEADS)
    if template is not None:
        writer.add_chat_template(template)
    embedded, output = tensor(count, width), tensor(count, width)
    if prose:
        embedded[:, 0], output[:, 0], output[says, 0] = 8.0, 0.0, 40.0
    writer.add_tensor("token_embd.weight", embedded)
    writer.add_tensor("output.weight", output)
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    for layer in range(layers):
        for name, shape in {
            "attn_q": (width, width),
            "attn_k": (width, width),
            "attn_v": (width, width),
            "attn_output": (width, width),
            "ffn_gate": (2 * width, width),
            "ffn_up": (2 * width, width),
            "ffn_down": (width, 2 * width),
        }.items():
            weights = tensor(*shape)
            if name in ("attn_output", "ffn_down"):
                weights = constant(weights)
            writer.add_tensor(f"blk.{layer}.{name}.weight", weights)
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _spm(writer: Any, words: tuple[str, ...], space_prefix: bool) -> list[str]:
    """The vocabulary of a llama 2: characters, bytes, and words that are found as they stand."""
    texts, kinds = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"], [2, 3, 3, 3, 3]
    texts += [f"<0x{byte:02X}>" for byte in range(256)]
    kinds += [6] * 256
    plain = ["▁", *(chr(code) for code in range(33, 127))]
    # Words of the system text too, so that a prompt is hundreds of tokens, not thousands.
    longer = [*words, *(f" {word}" for word in _system_words())]
    texts += [*plain, *longer]
    kinds += [1] * len(plain) + [4] * len(longer)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(texts)
    writer.add_token_scores([float(-place) for place in range(len(texts))])
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_space_prefix(space_prefix)
    return texts


def _bpe(writer: Any) -> list[str]:
    """The vocabulary of a GPT-2, as most models have it: bytes, and merges of pairs."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = [byte for byte in range(256) if byte not in kept]
    letters = {byte: chr(byte) for byte in kept} | {byte: chr(256 + at) for at, byte in enumerate(moved)}
    texts, merges = list(letters.values()), []
    for word in [*_PLAN_WORDS, *(f" {word}" for word in _system_words())]:
        spelled = [letters[byte] for byte in word.encode()]
        for end in range(2, len(spelled) + 1):
            merged = "".join(spelled[:end])
            if merged not in texts:
                texts.append(merged)
                merges.append(f"{merged[:-1]} {merged[-1]}")
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*texts, *special])
    writer.add_token_types([1] * len(texts) + [3] * len(special))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(len(texts))
    writer.add_eos_token_id(len(texts) + 2)
    writer.add_add_bos_token(False)
    return [*texts, *special]


_PLAN_WORDS = (
    "v1",
    " w",
    " d",
    " m",
    "10",
    "100",
    "12",
    "128",
    "16",
    "32",
    "50",
    "vip",
    " frequency",
    " none",
)


def _system_words() -> list[str]:
    return sorted(word for word in set(system_text(SPACE).split()) if len(word) > 2)


class FakeKeeper:
    """A keeper at a unix socket, in the test's own thread. Nobody waits for anybody."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(address)
        self._door.listen()
        self.end: socket.socket | None = None
        self._channel: Channel | None = None

    def accept(self, *greeting: Message, version: int = VERSION) -> None:
        """Take the trainer that has connected."""
        self.end = self._door.accept()[0]
        self._channel = Channel(self.end)
        self.say(Hello(version), *greeting)

    def say(self, *messages: Message) -> None:
        assert self._channel is not None
        for message in messages:
            assert self._channel.send(message)

    def asks(self) -> list[Ask]:
        """What the trainer has asked since the last call."""
        assert self._channel is not None
        return [message for message in self._channel.receive() if isinstance(message, Ask)]

    def close(self) -> None:
        for end in (self.end, self._door):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.close()


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[FakeKeeper]:
    fake = FakeKeeper(str(tmp_path / "keeper.sock"))
    yield fake
    fake.close()


METRICS = IntervalMetrics("features", 0, 0, 32, Plan(), 4, rows_requested=100, capacity_rows=9)


@pytest.fixture
def evidence() -> Callable[..., Evidence]:
    """Evidence about ``done`` of an interval's 32 steps of 100 ms each, under a plan."""

    def make(plan: Plan | None = None, interval: int = 0, step: float = 0.1, done: int = 32) -> Evidence:
        metrics = replace(METRICS, plan=plan or Plan(), interval=interval, minibatches=done)
        metrics = replace(metrics, seconds_wall=step * done)
        return Evidence(replace(metrics, rows_requested=100 + interval), SPACE)

    return make


@pytest.fixture(scope="session")
def llama() -> None:
    """Skips where llama.cpp, or what writes its files, is not installed."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra `agent`)")
    pytest.importorskip("gguf", reason="gguf is not installed (extra `pilot`)")


@pytest.fixture(scope="session")
def model(llama: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the shipped pilot's size, vocabulary and template."""
    path = tmp_path_factory.mktemp("model") / "random.gguf"
    return write_model(path, words=PIECES + NUMBERS, template=PILOT, layers=4, width=128)


@pytest.fixture(scope="session")
def random_model(llama: None) -> Callable[..., Path]:
    """`write_model`."""
    return write_model
