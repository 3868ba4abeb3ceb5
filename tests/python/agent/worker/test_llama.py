"""Real llama.cpp on random weights: every plan is allowed, prompts are reused exactly, deadlines hold."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rudder.agent.evidence import Evidence
from rudder.agent.prompt import evidence_text, system_text
from rudder.agent.space import Space
from rudder.agent.worker.decider import probe
from rudder.agent.worker.protocol import Ask
from rudder.agent.worker.settings import PILOT
from rudder.errors import AgentError, FormatError
from rudder.plan import Plan

if TYPE_CHECKING:
    from rudder.agent.worker.local import LlamaDecider

pytestmark = pytest.mark.usefixtures("llama")

# A template that knows no system role; one that tells the model to talk.
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "[INST]{{ m['content'] }}[/INST]{% endfor %}"
)
RAMBLING = (
    "{% for m in messages %}{{ m['content'] }}{% endfor %} Answer at length, as a poem. Once upon a time"
)
POEM = (" Once", " upon", " a", " midnight", " dreary")
TOKENIZERS = {
    "characters": {},
    "merging": {"words": ("=4", "4 d", " d=", "128", "=v", "100", "32 r", " p", "6 h", "0 b=")},
    "space in front": {"space_prefix": True, "words": (" v1", " w", "=2", "25")},
    "byte pairs": {"bpe": True},
    "no template": {"template": None},
    "no system role": {"template": NO_SYSTEM},
    "told to ramble": {"template": RAMBLING},
    "told to ramble, and does": {"template": RAMBLING, "prose": POEM},
}


@pytest.fixture
def opened() -> Iterator[Callable[..., LlamaDecider]]:
    from rudder.agent.worker.local import LlamaDecider

    found: list[LlamaDecider] = []

    def open_one(path: Path, **settings: int) -> LlamaDecider:
        found.append(LlamaDecider(str(path), **settings))
        return found[-1]

    yield open_one
    for decider in found:
        decider.close()


def asks(count: int, seed: int) -> Iterator[Ask]:
    """Of different plans in force, spaces and evidence."""
    rng = random.Random(seed)
    for number in range(count):
        plan = Plan(
            window=rng.choice([0, 0.25, 4, 16]),
            depth=rng.choice([1, 2, 16, 61]),
            buffer_share=rng.choice([10, 80, 100]),
            prior=rng.choice(["vip", "given"]),
            interval=rng.choice([8, 32, 100, 4096]),
        )
        # Two system texts: each costs a reading of three thousand characters.
        space = Space(priors=("vip", "frequency", "none"), shares=True) if number % 4 else Space(scores=True)
        line = probe(number + 1, 0).evidence.partition(" | ")[2]
        yield Ask(number, f"{plan} | {line}", space, 60_000.0)


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_random_weights_write_allowed_plans_only(
    tokenizer: str, random_model: Callable[..., Path], opened: Callable[..., LlamaDecider], tmp_path: Path
) -> None:
    decider = opened(random_model(tmp_path / "m.gguf", 7, **TOKENIZERS[tokenizer]))
    different = set()
    for ask in asks(8, 7):
        plan, cost = decider.decide(ask)
        assert ask.space.allows(Plan.parse(ask.evidence.partition(" | ")[0]), plan)
        assert cost["total_ms"] > 0
        different.add(plan)
    assert len(different) > 3  # it does choose


def test_a_model_that_rambles_is_not_asked_for_more_than_a_plan(
    random_model: Callable[..., Path], opened: Callable[..., LlamaDecider], tmp_path: Path
) -> None:
    decider = opened(random_model(tmp_path / "m.gguf", 7, **TOKENIZERS["told to ramble, and does"]))
    model = decider._model
    for ask in asks(40, 11):
        plan, _ = decider.decide(ask)
        assert ask.space.allows(Plan.parse(ask.evidence.partition(" | ")[0]), plan)
        # Left to itself it goes on with the poem, and never comes to a plan.
        said: list[int] = []
        for _ in range(12):
            scores = model.feed(said[-1:] or model.tokens("="))
            said.append(max(range(model.vocabulary), key=lambda token: scores[token]))
        words = model.spelled(said).split()
        assert len(words) == 12
        assert set(words) <= {word.strip() for word in POEM}


def test_the_prompt_is_what_the_template_says(
    random_model: Callable[..., Path], opened: Callable[..., LlamaDecider], tmp_path: Path
) -> None:
    decider = opened(random_model(tmp_path / "m.gguf"))
    model, prompts = decider._model, decider._prompts
    assert prompts.source == "from the file"
    text = model.spelled(prompts.tokens("rules", "line"))
    # Special tokens spell nothing here.
    assert text == "system\nrules\nuser\nline\nassistant\n"
    special = prompts.tokens("rules", "<|im_end|>").count(4)
    assert special == prompts.tokens("rules", "line").count(4) == 2  # a line cannot end its own message


@pytest.mark.parametrize(
    ("name", "source"),
    [("no template", "none: plain text"), ("no system role", "from the file, as one message")],
)
def test_files_without_a_usable_template_still_see_both_texts(
    name: str,
    source: str,
    random_model: Callable[..., Path],
    opened: Callable[..., LlamaDecider],
    tmp_path: Path,
) -> None:
    decider = opened(random_model(tmp_path / "m.gguf", **TOKENIZERS[name]))
    assert decider.report["template"] == source
    text = decider._model.spelled(decider._prompts.tokens("rules", "line"))
    assert "rules\n\nline" in text


def test_what_is_kept_of_earlier_prompts_changes_no_decision(
    random_model: Callable[..., Path], opened: Callable[..., LlamaDecider], tmp_path: Path
) -> None:
    path = random_model(tmp_path / "m.gguf", 3)
    kept = opened(path)
    for ask in asks(3, 3):
        plan, _ = kept.decide(ask)
        fresh = opened(path)
        fresh._model.read([1, 2])  # forget the probe's prompt
        again, fresh_cost = fresh.decide(ask)
        assert plan == again
        assert fresh_cost["reused_tokens"] <= 1
        fresh_plan, second_cost = fresh.decide(ask)
        assert fresh_plan == plan
        assert second_cost["reused_tokens"] == second_cost["prompt_tokens"] - 1


def test_a_passed_deadline_ends_a_decision_and_spoils_nothing(
    random_model: Callable[..., Path], opened: Callable[..., LlamaDecider], tmp_path: Path
) -> None:
    decider = opened(random_model(tmp_path / "m.gguf", 5, layers=4, width=128))
    ask = next(asks(1, 5))
    wanted, cost = decider.decide(ask)
    decider._model.read([1, 2])
    begin = time.monotonic()
    with pytest.raises(AgentError, match="deadline"):
        decider.decide(replace(ask, deadline_ms=cost["total_ms"] / 50))
    assert time.monotonic() - begin < 60
    assert decider.decide(ask)[0] == wanted


def test_a_prompt_that_does_not_fit_is_an_error(
    random_model: Callable[..., Path], opened: Callable[..., LlamaDecider], tmp_path: Path
) -> None:
    with pytest.raises(AgentError, match="context"):
        opened(random_model(tmp_path / "m.gguf"), context=512)


def test_weights_that_are_no_numbers_are_an_error(
    random_model: Callable[..., Path], opened: Callable[..., LlamaDecider], tmp_path: Path
) -> None:
    with pytest.raises(AgentError, match="finite"):
        opened(random_model(tmp_path / "m.gguf", poison=True))


@pytest.mark.parametrize("damage", ["empty", "random", "truncated header", "truncated weights"])
def test_a_damaged_file_says_what_is_wrong(
    damage: str, model: Path, opened: Callable[..., LlamaDecider], tmp_path: Path
) -> None:
    whole = model.read_bytes()
    path = tmp_path / "broken.gguf"
    path.write_bytes(
        {
            "empty": b"",
            "random": random.Random(1).randbytes(100_000),
            "truncated header": whole[:3000],
            "truncated weights": whole[: len(whole) // 2],
        }[damage]
    )
    with pytest.raises(FormatError, match=r"broken.gguf is no model") as caught:
        opened(path)
    assert "does not say" not in str(caught.value)


def test_the_pilot_s_size_decides_in_milliseconds(model: Path, opened: Callable[..., LlamaDecider]) -> None:
    decider = opened(model)
    assert decider.report["parameters"] > 900_000
    assert decider.report["template"] == "from the file"
    took = sorted(decider.decide(ask)[1]["total_ms"] for ask in asks(21, 1))
    # 5 ms on a free core; the tests may share theirs with anything.
    assert took[0] < 50


def test_the_shipped_model_writes_allowed_plans_only(opened: Callable[..., LlamaDecider]) -> None:
    decider = opened(PILOT)
    for ask in asks(20, 3):
        plan, _ = decider.decide(ask)
        assert ask.space.allows(Plan.parse(ask.evidence.partition(" | ")[0]), plan)


def test_the_system_text_is_read_once(
    random_model: Callable[..., Path],
    opened: Callable[..., LlamaDecider],
    tmp_path: Path,
    evidence: Callable[..., Evidence],
) -> None:
    decider = opened(random_model(tmp_path / "m.gguf"))
    space = Space(priors=("vip", "none"))
    costs = [
        decider.decide(Ask(0, evidence_text(evidence(interval=number)), space, 60_000.0))[1]
        for number in range(3)
    ]
    system = len(decider._model.tokens(system_text(space)))
    assert all(cost["reused_tokens"] >= system for cost in costs[1:])


def test_system_texts_that_take_turns_are_read_once_each(
    random_model: Callable[..., Path], opened: Callable[..., LlamaDecider], tmp_path: Path
) -> None:
    path = random_model(tmp_path / "m.gguf")
    decider = opened(path)
    read: list[int] = []
    stock = decider._model._decode
    decider._model._decode = lambda tokens, scores: (read.append(len(tokens)), stock(tokens, scores))[1]
    ask, news, plans = probe(3, 60_000.0), [], []
    for number in range(8):
        read.clear()
        plan, _ = decider.decide(replace(ask, job=f"trainers: {number % 2}"))
        news.append(sum(read))
        plans.append(plan)
    system = len(decider._model.tokens(system_text(ask.space, "trainers: 0")))
    assert all(count > system / 2 for count in news[:2])
    assert all(count < system / 2 for count in news[2:])
    fresh = opened(path)
    for number in range(2):
        wanted, _ = fresh.decide(replace(ask, job=f"trainers: {number}"))
        assert set(plans[number::2]) == {wanted}
