"""Real models behind the guard, on jobs that drift: they keep its promise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rudder.agent.default import DefaultController
from rudder.agent.evidence import Evidence
from rudder.agent.worker.settings import PILOT
from rudder.bench.agent_players import AskedAhead, ModelPlayer
from rudder.plan import Plan
from rudder.rollout.drive import Drive, drive
from rudder.rollout.generate import DRIFTING, workload
from rudder.rollout.terms import LIVE

pytestmark = pytest.mark.usefixtures("llama")
Beyond = Callable[[Drive, Drive], float]


@pytest.fixture(scope="module", params=["the pilot", "random weights"])
def asked(request: pytest.FixtureRequest, model: Path) -> Iterator[tuple[str, ModelPlayer]]:
    from rudder.agent.worker.local import LlamaDecider

    decider = LlamaDecider(str(PILOT if request.param == "the pilot" else model))
    yield request.param, ModelPlayer(decider)
    decider.close()


class EveryInterval:
    """A model's plans, but for how often it is asked: intervals are compared one by one."""

    def __init__(self, player: ModelPlayer) -> None:
        self._player = player

    def decide(self, evidence: Evidence) -> Plan:
        return self._player.decide(evidence).but(interval=evidence.plan.interval)


@pytest.mark.parametrize("kind", DRIFTING)
def test_a_model_keeps_the_promise(
    kind: str, asked: tuple[str, ModelPlayer], beyond_the_promise: Beyond
) -> None:
    which, player = asked
    some = workload(kind, 3, held_out=True)
    plan = Plan(prior=some.priors[0])
    default = drive(some, lambda simulator: DefaultController(), plan=plan, terms=LIVE, shadow=False)
    for lead in (0.0, 0.25):
        controller, before = AskedAhead(EveryInterval(player), lead), len(player.total_ms)
        live = drive(some, lambda simulator: controller, plan=plan, terms=LIVE)  # noqa: B023
        assert len(player.total_ms) - before == live.intervals
        assert beyond_the_promise(live, default) <= 0
        if which == "the pilot":  # which follows the evidence: so with all that its shadow took
            assert live.step_ms <= 1.01 * default.step_ms
    assert player.valid == len(player.total_ms)
