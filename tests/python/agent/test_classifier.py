"""Classifiers learn to name the candidate that the evidence speaks for, and answer plans that may follow."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("sklearn")

from rudder.agent.classifier import KINDS, ClassifierController
from rudder.agent.evidence import Evidence
from rudder.agent.examples import Example, write
from rudder.agent.prompt import evidence_text
from rudder.agent.space import Space
from rudder.errors import ConfigError
from rudder.metrics import IntervalMetrics
from rudder.plan import Plan

INTERVAL = IntervalMetrics("t", 0, 0, 10, Plan(), 100, seconds_wall=2.0, rows_requested=100, capacity_rows=50)
DEFAULT = Plan()
SPACE = Space(priors=("vip", "degree", "none"))
#: Each kind, where what it learns with is installed.
EACH_KIND = [
    pytest.param(
        kind,
        marks=pytest.mark.skipif(
            kind == "xgboost" and importlib.util.find_spec("xgboost") is None,
            reason="xgboost is not installed",
        ),
    )
    for kind in KINDS
]


def evidence(best: str, gain: float, space: Space = SPACE, plan: Plan = DEFAULT) -> Evidence:
    """One in which a candidate promises this share of the time."""
    times = {name: 101.0 for name in space.candidates(plan)} | {"=": 100.0, best: 100.0 * (1 - gain)}
    return Evidence(replace(INTERVAL, plan=plan), space, counterfactuals=times)


def lessons(space: Space = SPACE) -> list[Example]:
    made = []
    for gain in (0.02, 0.03, 0.05, 0.08, 0.1, 0.2, 0.3, 0.4):
        for name, plan in space.candidates(Plan()).items():
            line = evidence_text(evidence(name, gain if name != "=" else 0.0, space))
            made.append(Example(line, str(space.bounded(Plan(), plan)), name, gain))
    return made


@pytest.mark.parametrize("kind", EACH_KIND)
def test_it_names_what_it_learned(kind: str) -> None:
    controller = ClassifierController(kind, lessons() * 3)
    right = 0
    for name, plan in SPACE.candidates(Plan()).items():
        right += controller.decide(evidence(name, 0.12)) == SPACE.bounded(Plan(), plan)
    assert right >= 0.7 * len(SPACE.candidates(Plan()))


def test_it_takes_only_what_is_there() -> None:
    controller = ClassifierController("forest", lessons())
    narrow = Space(priors=("vip",))
    deepest = Plan(window=8, depth=16)
    for name in SPACE.candidates(Plan()):
        answer = controller.decide(evidence(name, 0.12, narrow, deepest))
        assert narrow.allows(deepest, answer)


@pytest.mark.parametrize("kind", EACH_KIND)
def test_it_says_yes_and_no_in_the_papers_mode(kind: str) -> None:
    space = Space(scores=True)
    controller = ClassifierController(kind, lessons(space) * 3)
    assert controller.decide(evidence("y", 0.12, space)).replace
    assert not controller.decide(evidence("n", 0.12, space)).replace


def test_one_label_needs_no_model() -> None:
    same = [example for example in lessons() if example.best == "="]
    assert ClassifierController("svm", same).decide(evidence("w+", 0.2)) == Plan()


def test_it_learns_from_a_file(tmp_path: Path) -> None:
    write(lessons(), tmp_path / "runs.tsv")
    fromfile = ClassifierController("forest", tmp_path / "runs.tsv")
    direct = ClassifierController("forest", lessons())
    for name in SPACE.candidates(Plan()):
        assert fromfile.decide(evidence(name, 0.15)) == direct.decide(evidence(name, 0.15))


def test_an_unknown_kind_or_no_example_is_refused() -> None:
    with pytest.raises(ConfigError, match="logistic"):
        ClassifierController("oracle", lessons())
    with pytest.raises(ConfigError, match="no example"):
        ClassifierController("forest", [])


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(ConfigError, match="needs xgboost: pip install xgboost"):
        ClassifierController("xgboost", lessons())
