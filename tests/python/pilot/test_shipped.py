"""The pilot that comes with Rudder answers held-out decisions about as well as its card says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("llama_cpp")

from rudder.agent.examples import read
from rudder.agent.prompt import plan_of
from rudder.agent.space import Space
from rudder.agent.worker.local import LlamaDecider
from rudder.agent.worker.protocol import Ask
from rudder.agent.worker.settings import PILOT
from rudder.rollout.terms import PRIORS

#: Some of the held-out decisions of the run that made the pilot.
HELD_OUT = Path(__file__).with_name("held-out.tsv")


@pytest.fixture(scope="module")
def pilot() -> Iterator[LlamaDecider]:
    decider = LlamaDecider(str(PILOT))
    yield decider
    decider.close()


def test_it_answers_held_out_decisions(pilot: LlamaDecider) -> None:
    examples, right, changed = read(HELD_OUT), 0, 0
    for number, one in enumerate(examples):
        plan, _ = pilot.decide(Ask(number, one.line, Space(priors=PRIORS), 60_000))
        right += str(plan) == one.answer
        changed += plan != plan_of(one.line)
    assert right >= 0.55 * len(examples)
    assert changed >= 0.1 * len(examples)


def test_what_comes_before_the_evidence_line_changes_nothing(pilot: LlamaDecider) -> None:
    before = "interval 3: 12.30 ms a step\nchange w 4 -> 6: not measured yet\n" * 3
    for one in read(HELD_OUT)[:20]:
        plan, cost = pilot.decide(Ask(1, one.line, Space(priors=PRIORS), 60_000))
        again, more = pilot.decide(Ask(2, before + one.line, Space(priors=PRIORS), 60_000, "trainers: 4"))
        assert again == plan
        assert more["prompt_tokens"] == cost["prompt_tokens"]


def test_its_file_has_the_template_that_training_writes(pilot: LlamaDecider) -> None:
    from rudder.pilot.export import CHAT_TEMPLATE

    assert pilot._model.template == CHAT_TEMPLATE


def test_its_prompt_is_short_and_its_template_is_its_own(pilot: LlamaDecider) -> None:
    one = read(HELD_OUT)[0]
    _, cost = pilot.decide(Ask(1, one.line, Space(priors=PRIORS), 60_000))
    assert cost["prompt_tokens"] < 110
    assert pilot.report["template"] == "from the file"
    assert 1e6 < pilot.report["parameters"] < 4e6
    assert PILOT.stat().st_size < 4_000_000
