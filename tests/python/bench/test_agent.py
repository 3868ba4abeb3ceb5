"""`rudder bench agent`: who is compared with whom, what an interval of resampling holds, what is too slow."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rudder.agent.default import DefaultController
from rudder.agent.evidence import Evidence
from rudder.agent.space import Space
from rudder.bench import paper
from rudder.bench.agent import AgentSettings, in_time, run
from rudder.bench.agent_players import AskedAhead, ModelPlayer
from rudder.bench.agent_result import AgentReport, Outcome, resampled
from rudder.errors import AgentError, ConfigError
from rudder.metrics import IntervalMetrics
from rudder.plan import Plan
from rudder.rollout.drive import drive
from rudder.rollout.generate import workload

TIMES = {
    "default": (100.0, 50.0, 80.0),
    "rule": (98.0, 50.0, 80.0),
    "agent": (94.0, 49.0, 80.0),
    "oracle": (90.0, 48.0, 80.0),
}


@pytest.fixture
def report() -> AgentReport:
    outcomes = [
        Outcome(f"phases:{number}", name, times[number], 1, 0)
        for number in range(3)
        for name, times in TIMES.items()
    ]
    return AgentReport("pilot.gguf", 0.1, {"p50": 5.0, "p99": 9.0}, 1.0, 30, outcomes)


def test_gains_and_regret_are_shares_of_the_modelled_time(report: AgentReport) -> None:
    found = {each.controller: each for each in report.standings()}
    agent = found["agent"]
    assert agent.over_default.middle == pytest.approx((0.06 + 0.02) / 3)
    assert agent.median.middle == pytest.approx(0.02)
    assert agent.over_rule is not None
    assert agent.over_rule.middle == pytest.approx((4 / 98 + 0.02) / 3)
    assert agent.over_shadow is None
    assert agent.of_oracle is not None
    assert agent.of_oracle.middle == pytest.approx((0.06 + 0.02) / (0.10 + 0.04))
    assert agent.regret.middle == pytest.approx((94 / 90 - 1 + 49 / 48 - 1) / 3)
    assert agent.worst == pytest.approx(0.0)
    assert found["oracle"].of_oracle is not None
    assert found["oracle"].of_oracle.middle == 1.0
    assert found["default"].over_default.middle == 0.0


def test_nothing_to_gain_is_no_share(report: AgentReport) -> None:
    assert all(each.of_oracle is None for each in report.standings(["phases:2"]))


def test_the_file_has_what_was_promised(report: AgentReport) -> None:
    found = json.loads(json.dumps(report.as_json()))
    assert {"model", "load_seconds", "decision_ms", "valid_share", "workloads"} <= set(found)
    assert set(found["decision_ms"]) == {"p50", "p99"}
    one = found["workloads"][0]["controllers"]["agent"]
    assert one["modelled_step_ms"] == 94.0
    assert one["regret_to_oracle"] == pytest.approx(94 / 90 - 1)


def test_an_interval_holds_the_middle_and_is_the_same_each_time() -> None:
    values = [1.0, 2.0, 3.0, 10.0]

    def mean(rows: Any) -> float:
        return float(sum(values[row] for row in rows)) / len(rows)

    found = resampled(mean, 4)
    assert found.low < found.middle == 4.0 < found.high
    assert found == resampled(mean, 4)


def test_a_slow_model_is_told_the_interval_that_it_needs() -> None:
    settings = AgentSettings(step_ms=50.0, interval=32)
    assert "fast enough" in in_time(400.0, settings)
    assert "at least 36" in in_time(401.0, settings)
    assert "no interval is long enough" in in_time(1e7, settings)


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match="phases"):
        AgentSettings(kinds=("phase",))
    with pytest.raises(ConfigError, match="at least one"):
        AgentSettings(each=0)


def evidence(plan: Plan) -> Evidence:
    return Evidence(IntervalMetrics("t", 0, 0, 10, plan, 100, seconds_wall=1.0), Space())


class Deeper:
    def decide(self, evidence: Evidence) -> Plan:
        return evidence.plan.but(depth=evidence.plan.depth + 1)


class Remembers(Deeper):
    """Which evidence it decided on."""

    def __init__(self) -> None:
        self.seen: list[IntervalMetrics] = []

    def decide(self, evidence: Evidence) -> Plan:
        self.seen.append(evidence.metrics)
        return super().decide(evidence)


@pytest.mark.parametrize(("share", "lead"), [(0.0, 1), (0.1, 3), (0.25, 8), (1.0, 8)])
def test_a_model_is_asked_before_the_end_of_the_interval_that_it_answers_for(share: float, lead: int) -> None:
    inner = Remembers()
    some = workload("memory", 1)
    found = drive(some, lambda _: AskedAhead(inner, share), guarded=False)
    assert len(inner.seen) == found.intervals == len(some) // 32
    assert [metrics.minibatches for metrics in inner.seen] == [32 - lead] * found.intervals
    # What was answered to an interval is in force in the next one, all of it.
    assert [metrics.plan.depth for metrics in inner.seen[:3]] == [2, 3, 4]
    assert [metrics.interval for metrics in inner.seen] == list(range(found.intervals))


def test_asking_early_changes_no_interval_that_keeps_its_plan() -> None:
    some = workload("memory", 1)
    default = drive(some, lambda _: DefaultController())
    assert drive(some, lambda _: AskedAhead(DefaultController(), 0.2)).step_ms == default.step_ms
    deeper = drive(some, lambda _: Deeper(), guarded=False)
    assert drive(some, lambda _: AskedAhead(Deeper()), guarded=False).step_ms == deeper.step_ms


def test_a_models_time_and_its_valid_answers_are_counted() -> None:
    class Fixed:
        report: dict[str, Any] = {}  # noqa: RUF012

        def decide(self, ask: Any) -> tuple[Plan, dict[str, float]]:
            if ask.id == 1:
                raise AgentError("the model answered no plan: 'Sure!'")
            return Plan(depth=3), {"prefill_ms": 4.0, "decode_ms": 1.0}

    player = ModelPlayer(Fixed())
    assert player.decide(evidence(Plan())).depth == 3
    assert player.decide(evidence(Plan(depth=4))) == Plan(depth=4)  # nothing that can be used: it stays
    assert player.decide(evidence(Plan())).depth == 3
    assert (player.valid, len(player.total_ms), player.prefill_ms) == (2, 3, [4.0, 0.0, 4.0])


@pytest.mark.slow
def test_a_held_out_job_is_played_by_everybody() -> None:
    found = run(AgentSettings(controllers=("rule", "shadow"), kinds=("memory",), each=1, seed=3))
    assert found.controllers() == ["default", "rule", "shadow", "oracle"]
    assert found.workloads() == ["memory:3000h"]
    times = {name: float(values[0]) for name, values in found.milliseconds(found.workloads()).items()}
    assert all(time > 0 for time in times.values())
    assert times["oracle"] <= times["default"]
    assert found.model is None


@pytest.mark.slow
def test_the_papers_mode_asks_a_model_before_the_boundary(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says yes, always: what is known when it is asked is the interval without its last minibatch."""
    asked: list[Evidence] = []

    class Player:
        def __init__(self, decider: Any) -> None:
            """Made for any model."""

        def decide(self, evidence: Evidence) -> Plan:
            asked.append(evidence)
            return evidence.plan.but(replace=True)

    monkeypatch.setattr(paper, "decider", lambda model: None)
    monkeypatch.setattr(paper, "ModelPlayer", Player)
    settings = AgentSettings("a model", (), ("phases",), 1)
    found = {each.controller: each for each in paper.run(settings)}
    assert {each.metrics.minibatches for each in asked} == {settings.interval - 1}
    assert len(asked) >= found["agent"].decisions
    # What replacing brought is seen an interval later.
    first, *later = (each.counterfactuals for each in asked)
    assert first["y"] == first["n"]
    assert all(each["y"] != each["n"] for each in later)
    assert found["agent"].rows_replaced == found["always"].rows_replaced
    assert found["agent"].relative_time == pytest.approx(1.0)


def test_always_and_never_are_the_ends_of_the_papers_mode() -> None:
    found = {each.controller: each for each in paper.run(AgentSettings(None, (), ("phases",), 1))}
    assert list(found) == ["always", "never", "oracle"]
    assert (found["always"].yes, found["never"].yes) == (found["always"].decisions, 0)
    assert found["always"].relative_time == 1.0
    assert found["always"].rows_replaced > found["never"].rows_replaced
