"""Whatever a controller does, training goes on with the last good plan."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rudder import ArraySource, Evidence, IntervalMetrics, Options, Plan, PolicySettings, Prefetcher, explain
from rudder.agent import make_controller
from rudder.agent.controller import Report
from rudder.agent.prompt import prompt_text
from rudder.errors import ConfigError
from rudder.frequency import FrequencyPrior
from rudder.steering import Steering


class Scripted:
    """Gives the answers of a list, raising those that are exceptions."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.seen: list[IntervalMetrics] = []

    def decide(self, evidence: Evidence) -> Plan:
        self.seen.append(evidence.metrics)
        answer = self.answers.pop(0) if self.answers else evidence.plan
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]


def run(controller: Any, minibatches: int, **options: Any) -> Prefetcher:
    rows = np.arange(4000, dtype=np.float32).reshape(1000, 4)
    options = {"plan": Plan(interval=4), **options}
    settings = Options(controller=controller, prior="none", guard=False, **options)
    table = Prefetcher(ArraySource(rows, [0, 500, 1000]), settings)
    rng = np.random.default_rng(0)
    for ids in table.iterate([rng.integers(0, 1000, 50) for _ in range(minibatches)]):
        assert (table[ids] == rows[ids]).all()
    return table


def test_a_plan_is_in_force_from_the_next_interval_on() -> None:
    wanted = Plan(interval=8, depth=5, window=1.0, prior="none")
    controller = Scripted(wanted)
    with run(controller, 21) as table:
        assert table.plan == wanted
    assert [metrics.minibatches for metrics in controller.seen] == [4, 8, 8]
    assert [metrics.plan.depth for metrics in controller.seen] == [2, 5, 5]


@pytest.mark.parametrize("answer", [ValueError("no idea"), None, "v1 w=4", Plan(prior="vip")])
def test_an_unusable_answer_keeps_the_last_good_plan(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    good = Plan(interval=4, depth=3, prior="none")
    controller = Scripted(good, answer, answer)
    with caplog.at_level(logging.WARNING, "rudder"), run(controller, 17) as table:
        assert table.plan == good
        assert table.metrics().refused_decisions == 2
    assert len(caplog.records) == 1
    assert "last good plan stays" in caplog.text


class Reports(Scripted):
    """Tells of itself what it was given, raising exceptions."""

    def __init__(self, told: Any, *answers: Any) -> None:
        super().__init__(*answers)
        self.told, self.asked, self.closed = told, 0, 0

    def report(self) -> Any:
        self.asked += 1
        if isinstance(self.told, Exception):
            raise self.told
        return self.told

    def close(self) -> None:
        self.closed += 1
        raise OSError("no such socket")


@pytest.mark.parametrize(
    "told", [RuntimeError("no idea"), {"valid": 1}, None, Report(valid="1"), Report(cpu_seconds=math.nan)]
)
def test_a_report_that_cannot_be_used_is_asked_for_once(told: Any, caplog: pytest.LogCaptureFixture) -> None:
    wanted = Plan(interval=4, depth=3, prior="none")
    controller = Reports(told, wanted)
    with caplog.at_level(logging.WARNING, "rudder"), run(controller, 17) as table:
        assert table.plan == wanted
        assert (table.metrics().refused_decisions, table.metrics().decisions_adopted) == (1, 1)
    assert (controller.asked, len(controller.seen), controller.closed) == (1, 4, 1)
    assert [text.partition(" (")[0] for text in caplog.messages] == [
        "controller Reports has no report() that can be used",
        "controller Reports: its close() raised OSError: no such socket",
    ]


def test_a_report_that_is_no_method_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    controller = Scripted()
    controller.report = {}  # type: ignore[attr-defined]
    with run(controller, 9) as table:
        assert table.metrics().refused_decisions == 1
    assert "not callable" in caplog.text


def test_a_plan_to_go_back_to_that_cannot_be_had_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Steering, "settle", lambda self: Plan(prior="vip"))
    with run(Scripted(), 9) as table:
        assert table.plan == Plan(interval=4, prior="none")
        assert table.metrics().refused_decisions == 2
    assert "the plan to go back to cannot be applied" in caplog.text


class ThinksElsewhere:
    """Is asked ahead by so much, and has an answer or, in intervals of ``late``, none by the boundary."""

    def __init__(self, lead: int, late: tuple[int, ...] = ()) -> None:
        self.wanted_lead, self.late = lead, late
        self.told: list[int] = []
        self.asked: list[Evidence] = []
        self.decided: list[IntervalMetrics] = []
        self.said = Report(state="ready")

    def lead(self, metrics: IntervalMetrics) -> int:
        self.told.append(metrics.minibatches)
        return self.wanted_lead

    def ask(self, evidence: Evidence) -> None:
        self.asked.append(evidence)

    def decide(self, evidence: Evidence) -> Plan:
        self.decided.append(evidence.metrics)
        number, plan = evidence.metrics.interval, evidence.plan
        if number in self.late:
            self.said = replace(self.said, late=self.said.late + 1)
            return plan
        self.said = replace(self.said, valid=self.said.valid + 1, answered=number)
        return plan.but(depth=plan.depth + 1)

    def report(self) -> Report:
        return self.said


@pytest.mark.parametrize(("wanted", "lead"), [(0, 1), (1, 1), (3, 3), (4, 4), (99, 4)])
def test_who_thinks_elsewhere_is_asked_before_the_end_of_the_interval_that_it_answers_for(
    wanted: int, lead: int
) -> None:
    controller = ThinksElsewhere(wanted)
    with run(controller, 16 * 4 + 1, plan=Plan(interval=16, prior="none")) as table:
        assert table.plan.depth == 2 + 4
    assert [each.metrics.minibatches for each in controller.asked] == [16 - lead] * 4
    assert [each.minibatches for each in controller.decided] == [16] * 4  # measured from end to end
    for asked, whole in zip(controller.asked, controller.decided):
        # The question is about a part of the interval, all of it under the plan of the whole.
        assert (asked.metrics.interval, asked.plan) == (whole.interval, whole.plan)
        assert 0 < asked.metrics.rows_requested <= whole.rows_requested
        assert asked.metrics.seconds_wall < whole.seconds_wall
    assert [each.plan.depth for each in controller.decided] == [2, 3, 4, 5]
    assert controller.told == [each for _ in range(4) for each in ((12,) if lead == 4 else (12, 16 - lead))]
    assert [each.previous for each in controller.asked] == [None, *controller.decided[:-1]]


def test_an_answer_that_is_not_there_by_the_boundary_is_late(tmp_path: Path) -> None:
    controller = ThinksElsewhere(2, late=(1,))
    with run(controller, 8 * 3 + 1, plan=Plan(interval=8, prior="none"), metrics_dir=tmp_path) as table:
        metrics = table.metrics()
    assert [each.plan.depth for each in controller.decided] == [2, 3, 3]
    assert (metrics.decisions_made, metrics.decisions_valid, metrics.decisions_late) == (3, 2, 1)
    found = explain.read(tmp_path)
    assert [each["outcome"] for each in found] == ["adopted", "late", "adopted"]
    assert [each["answers"] for each in found] == [0, None, 2]
    assert [each["lead"] for each in found] == [2, 2, 2]
    assert [each["minibatches"] for each in found] == [8, 8, 8]
    assert "(asked 2 minibatches before the end)" in "".join(explain.as_text(found[0]))
    assert [each["prompt"] for each in found] == [prompt_text(each) for each in controller.asked]


def test_an_interval_in_which_somebody_else_changed_the_plan_is_not_asked_about() -> None:
    rows = np.arange(4000, dtype=np.float32).reshape(1000, 4)
    controller = ThinksElsewhere(1, late=(0, 1, 2))
    options = Options(controller=controller, plan=Plan(interval=8), prior="none", guard=False)
    with Prefetcher(ArraySource(rows, [0, 500, 1000]), options) as table:
        for number, ids in enumerate(table.iterate([np.arange(400, 600)] * 25, epochs=1)):
            assert (table[ids] == rows[ids]).all()
            if number == 10:
                table.replan(depth=5)
    assert [each.metrics.interval for each in controller.asked] == [0, 2]


def test_a_question_that_fails_is_counted_and_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    controller = ThinksElsewhere(1)
    controller.ask = lambda evidence: 1 / 0  # type: ignore[assignment,method-assign]
    with run(controller, 17) as table:
        assert table.metrics().refused_decisions == 4
    assert "raised ZeroDivisionError" in caplog.text


def test_hit_rate_is_the_intervals_own() -> None:
    controller = Scripted()
    with run(controller, 41, capacity=1.0) as table:
        total = table.metrics()
    assert sum(metrics.rows_requested for metrics in controller.seen) <= total.rows_requested
    assert controller.seen[0].hit_rate < controller.seen[-1].hit_rate
    last = controller.seen[-1]
    assert last.hit_rate == last.rows_hit / last.rows_requested


def test_a_callback_that_fails_is_not_called_again(caplog: pytest.LogCaptureFixture) -> None:
    calls = []

    def broken(metrics: IntervalMetrics) -> None:
        calls.append(metrics)
        raise OSError("logger is down")

    with run("default", 17, on_metrics=broken):
        pass
    assert len(calls) == 1


def test_controllers_by_name_or_as_objects() -> None:
    assert make_controller("rule").decide is not None
    for wrong in ("best", object()):
        with pytest.raises(ConfigError):
            make_controller(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("oracle", "steers replays"),
        ("classifier:tarot", "forest"),
        ("rule:2", "default, rule"),
    ],
)
def test_names_that_cannot_steer_a_live_run(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        run(name, 1)


def test_a_script_that_names_no_controller_takes_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Options().controller == "default"
    monkeypatch.setenv("RUDDER_CONTROLLER", "rule")
    assert Options().controller == "rule"
    assert Options(controller="default").controller == "default"
    monkeypatch.setenv("RUDDER_CONTROLLER", "nobody")
    with pytest.raises(ConfigError, match="nobody"):
        Options()


def test_a_controller_of_a_name_stays_in_the_space_and_an_object_need_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    far = Plan(interval=4, depth=9, window=0.25, prior="none")
    monkeypatch.setattr("rudder.agent.rule.RuleController.decide", lambda self, evidence: far)
    with run("rule", 9) as table:
        assert (table.plan.depth, table.plan.window) == (4, 2.0)  # two intervals, a step in each
    with run(Scripted(far), 5) as table:
        assert table.plan == far


@pytest.mark.parametrize(
    "controller", ["rule", "shadow", *(f"classifier:{kind}" for kind in ("logistic", "forest", "mlp", "svm"))]
)
def test_the_papers_mode_is_steered_by_yes_and_no_alone(controller: str) -> None:
    if controller.startswith("classifier"):
        pytest.importorskip("sklearn")
    settings = PolicySettings(period=0, alpha=0.1)
    with run(controller, 61, policy="score", policy_settings=settings, capacity=100) as table:
        metrics = table.metrics()
        assert table.plan.but(replace=True, fraction=100) == Plan(interval=4, prior="none")
    assert metrics.decisions_made == metrics.decisions_valid == 15
    assert metrics.refused_decisions == 0
    assert metrics.rows_replaced > 0


def test_a_prior_counted_in_the_run_is_computed_when_the_plan_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built = []
    worth = FrequencyPrior.worth
    monkeypatch.setattr(FrequencyPrior, "worth", lambda self: built.append(self) or worth(self))
    rows = np.arange(4000, dtype=np.float32).reshape(1000, 4)

    def intervals(controller: Any) -> int:
        built.clear()
        settings = Options(controller=controller, plan=Plan(interval=4), prior="frequency")
        with Prefetcher(ArraySource(rows, [0, 500, 1000]), settings) as table:
            for ids in table.iterate([np.arange(1000)] * 21, epochs=1):
                table[ids]
        return len(built)

    plan = Plan(interval=4, prior="frequency")
    assert intervals("default") == 5
    assert intervals(Scripted()) == 1  # the first counts; afterwards nobody asked
    assert intervals(Scripted(plan, plan, plan.but(rebuild=True), plan)) == 2
