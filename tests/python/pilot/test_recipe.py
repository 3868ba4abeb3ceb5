"""The whole way from nothing to a GGUF file, small: the file decides, the same seed makes the same file."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("gguf")
pytest.importorskip("llama_cpp")

from rudder.agent.examples import read  # noqa: E402
from rudder.agent.prompt import plan_of  # noqa: E402
from rudder.agent.space import Space  # noqa: E402
from rudder.pilot.gather import Amount, gather  # noqa: E402
from rudder.pilot.model import Shape  # noqa: E402
from rudder.pilot.recipe import Recipe, make  # noqa: E402
from rudder.plan import Plan  # noqa: E402
from rudder.rollout.terms import PRIORS  # noqa: E402

TINY = Recipe(minutes=0.1, threads=1, shape=Shape(layers=1, width=64, heads=2, inner=64))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pilot")


@pytest.fixture(scope="module")
def told(work: Path) -> list[str]:
    found: list[str] = []
    make(TINY, work / "pilot.gguf", work=work, decisions=work / "shipped.tsv", tell=found.append)
    return found


@pytest.mark.slow
def test_it_says_how_good_it_is(told: list[str]) -> None:
    assert "held-out loss" in told[-1]
    assert any("of plans right" in words for words in told)


@pytest.mark.slow
def test_labels_may_follow_and_held_out_ones_are_of_other_workloads(work: Path, told: list[str]) -> None:
    lessons, held_out = read(work / "decisions.tsv"), read(work / "held-out.tsv")
    assert read(work / "shipped.tsv") == lessons
    assert not {one.source for one in lessons} & {one.source for one in held_out}
    assert all(one.source.endswith("h") for one in held_out)
    for one in lessons:
        assert Space(priors=PRIORS).allows(plan_of(one.line), Plan.parse(one.answer))


@pytest.mark.slow
def test_every_answer_of_the_file_is_a_plan_that_may_follow(work: Path, told: list[str]) -> None:
    from rudder.agent.worker.local import LlamaDecider
    from rudder.agent.worker.protocol import Ask

    decider, space = LlamaDecider(str(work / "pilot.gguf")), Space(priors=PRIORS)
    for number, one in enumerate(read(work / "held-out.tsv")):
        plan, cost = decider.decide(Ask(number, one.line, space, 60_000))
        assert space.allows(plan_of(one.line), plan)
        assert cost["prompt_tokens"] < 110
    decider.close()


@pytest.mark.slow
def test_what_is_there_is_not_made_again_and_comes_out_the_same(work: Path, told: list[str]) -> None:
    again: list[str] = []
    make(TINY, work / "again.gguf", work=work, tell=again.append)
    assert not any(words.startswith("step") for words in again)
    assert (work / "again.gguf").read_bytes() == (work / "pilot.gguf").read_bytes()


@pytest.mark.slow
def test_the_number_of_processes_changes_no_example() -> None:
    one, two = (gather(Amount(2, seed=5), processes, lambda words: None) for processes in (1, 2))
    assert one == two
