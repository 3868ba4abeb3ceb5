"""Every text has tokens, the text form of evidence and plans has few, and llama.cpp finds the same ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rudder.agent.evidence import COUNTERFACTUALS, SIGNALS
from rudder.pilot import vocabulary
from rudder.pilot.drill import drill
from rudder.plan import KEYS, Plan


def test_a_plan_is_two_tokens_a_knob_and_its_version() -> None:
    assert len(vocabulary.encode(str(Plan()))) == 1 + 2 * len(KEYS)


def test_an_evidence_line_is_two_tokens_a_signal_behind_its_plan() -> None:
    for one in drill(50, seed=1):
        behind = vocabulary.encode(one.line.partition(" |")[2])
        assert len(behind) == 2 * (len(SIGNALS) + len(COUNTERFACTUALS))


@pytest.mark.parametrize("value", [0, 7, 10, 99, 100, 105, 110, 999, -1, -10, -105, -900])
def test_a_number_is_one_token(value: int) -> None:
    assert vocabulary.encode(str(value)) == [vocabulary.numbers()[value]]


@given(st.text())
@example("h=65536 w=2.25 -00-5 1000")
@example("\u2581 \x00é\U0001f600")
def test_every_text_comes_back(text: str) -> None:
    again = vocabulary.decode(vocabulary.encode(text))
    assert again == text.replace("\u2581", " ")


def test_no_piece_is_there_twice() -> None:
    assert len(set(vocabulary.PIECES)) == vocabulary.SIZE


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """llama.cpp's, from a file of ours."""
    llama_cpp = pytest.importorskip("llama_cpp")
    pytest.importorskip("gguf")
    torch = pytest.importorskip("torch")
    from rudder.pilot.export import export
    from rudder.pilot.model import Pilot, Shape

    path: Path = tmp_path_factory.mktemp("pilot") / "words.gguf"
    torch.manual_seed(1)
    export(Pilot(Shape(layers=1, width=64, heads=2, inner=64)), path)
    return llama_cpp.Llama(str(path), vocab_only=True, verbose=False)


words = st.sampled_from([piece for piece in vocabulary.PIECES if not piece.startswith("<")])
# llama.cpp takes a text's bytes; a surrogate alone has none.
texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.one_of(words, texts, st.integers(-99999, 99999).map(str))).map("".join))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(drill(1, seed=3)[0].line)
@example("  st: st: |v1v1 w=44 =viplist<s><|plan|>")
@example("1234567-890-12--3")
def test_llama_cpp_finds_the_same_tokens(tokenizer: Any, text: str) -> None:
    assert tokenizer.tokenize(text.encode(), add_bos=False, special=False) == vocabulary.encode(text)


def test_llama_cpp_writes_the_same_text(tokenizer: Any) -> None:
    for one in drill(20, seed=2):
        assert tokenizer.detokenize(vocabulary.encode(one.line)).decode() == one.line


def test_the_chat_template_leaves_the_evidence_line_alone(tokenizer: Any) -> None:
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    line = drill(1, seed=4)[0].line
    formatter = Jinja2ChatFormatter(
        template=tokenizer.metadata["tokenizer.chat_template"], bos_token="<s>", eos_token="</s>"
    )
    text = formatter(
        messages=[
            {"role": "system", "content": "You steer."},
            {"role": "user", "content": f"interval 3: 12.00 ms a step\nchange w 4 -> 6\n{line}"},
        ]
    ).prompt
    assert tokenizer.tokenize(text.encode(), add_bos=False, special=True) == vocabulary.prompt(line)
