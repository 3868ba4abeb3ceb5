"""A pilot learns, goes on where it stopped, and computes the same in torch and in llama.cpp."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rudder.agent.evidence import COUNTERFACTUALS  # noqa: E402
from rudder.agent.examples import signals_of  # noqa: E402
from rudder.agent.prompt import plan_of  # noqa: E402
from rudder.agent.space import Space  # noqa: E402
from rudder.pilot import vocabulary  # noqa: E402
from rudder.pilot.batch import batch  # noqa: E402
from rudder.pilot.drill import drill, paper_drill  # noqa: E402
from rudder.pilot.model import Pilot, Shape  # noqa: E402
from rudder.pilot.train import Schedule, quality, train  # noqa: E402
from rudder.plan import Plan  # noqa: E402

TINY = Shape(layers=1, width=64, heads=2, inner=96)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_the_answers_of_a_drill_are_plans_that_may_follow() -> None:
    everything = Space(priors=("vip", "degree", "frequency", "none"))
    changed = 0
    for one in drill(300, seed=1):
        plan, answer = plan_of(one.line), Plan.parse(one.answer)
        assert everything.allows(plan, answer)
        changed += plan != answer
        promised = signals_of(one.line)
        if min(number for name, number in promised.items() if name in COUNTERFACTUALS and name != "df") > -5:
            assert plan == answer
    assert changed > 100


def test_a_batch_asks_for_the_answer_and_nothing_else() -> None:
    data = batch(drill(4, seed=1))
    for row, one in enumerate(drill(4, seed=1)):
        asked = np.roll(data.tokens[row], -1)[data.asks[row]]
        assert vocabulary.decode(list(asked)) == one.answer
        assert asked[-1] == vocabulary.IDS[vocabulary.END]


def test_what_comes_later_changes_nothing_before() -> None:
    torch.manual_seed(1)
    pilot = Pilot(TINY)
    tokens = torch.tensor([vocabulary.prompt(drill(1, seed=1)[0].line)])
    other = tokens.clone()
    other[0, -1] = 5
    assert torch.equal(pilot(tokens)[0, :-1], pilot(other)[0, :-1])


def test_training_learns_what_a_plan_looks_like() -> None:
    held_out = drill(50, seed=2)
    torch.manual_seed(1)
    before = quality(Pilot(TINY), batch(held_out)).loss
    pilot = train(drill(400, seed=1), held_out, Schedule(steps=60, rows=16, warm_up=5), shape=TINY)
    assert quality(pilot, batch(held_out)).loss < before / 4


def test_a_training_that_was_stopped_goes_on_to_the_same_pilot(tmp_path: Path) -> None:
    examples, schedule = drill(64, seed=1), Schedule(steps=8, rows=16, warm_up=2, every=4)
    whole = train(examples, examples[:8], schedule, shape=TINY)

    class StopError(Exception):
        pass

    def stop(words: str) -> None:
        if words.startswith("step 8"):
            raise StopError

    with pytest.raises(StopError):
        train(examples, examples[:8], schedule, shape=TINY, checkpoint=tmp_path / "c.pt", tell=stop)
    resumed = train(examples, examples[:8], schedule, shape=TINY, checkpoint=tmp_path / "c.pt")
    for mine, theirs in zip(whole.parameters(), resumed.parameters()):
        assert torch.equal(mine, theirs)


def test_numbers_never_seen_lie_between_their_neighbours() -> None:
    torch.manual_seed(1)
    table, ids = Pilot(TINY).table(), vocabulary.numbers()

    def far(first: int, second: int) -> float:
        return float((table[ids[first]] - table[ids[second]]).detach().norm())

    assert far(500, 501) < far(500, 600) < far(500, -500)


def test_llama_cpp_computes_what_torch_does(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    pytest.importorskip("gguf")
    from rudder.pilot.check import largest_difference
    from rudder.pilot.export import export

    torch.manual_seed(1)
    pilot = Pilot()
    with torch.no_grad():  # as large as trained ones, so that a wrong rotation or norm shows
        for weight in pilot.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    prompts = [vocabulary.prompt(one.line) + vocabulary.encode(one.answer) for one in drill(3, seed=1)]
    export(pilot, tmp_path / "f32.gguf", kind="f32")
    assert largest_difference(pilot, tmp_path / "f32.gguf", prompts) < 2e-5
    export(pilot, tmp_path / "q8_0.gguf")
    rounded = largest_difference(pilot, tmp_path / "q8_0.gguf", prompts)
    assert 2e-5 < rounded < 0.1
    assert (tmp_path / "q8_0.gguf").stat().st_size < 2_000_000


def test_the_papers_drills_follow_the_two_modelled_times() -> None:
    space, answers = Space(scores=True), set()
    for one in paper_drill(200, seed=1):
        plan, answer, promised = plan_of(one.line), Plan.parse(one.answer), signals_of(one.line)
        other = "n" if plan.replace else "y"
        assert space.allows(plan, answer)
        assert (answer != plan) == (promised[other] <= -5)
        assert one.best == ("y" if answer.replace else "n")
        answers.add((plan.replace, answer.replace))
    assert len(answers) == 4
