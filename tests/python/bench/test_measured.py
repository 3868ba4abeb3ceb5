"""`rudder bench agent --measured`: what is compared, what a trainer checks, what cannot be played."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rudder.bench.agent import AgentSettings
from rudder.bench.measured import AGAIN, Measured, gains, run, table
from rudder.bench.trainer import Run, Trainer
from rudder.errors import ConfigError, VerifyError
from rudder.rollout.generate import workload
from rudder.rollout.workload import Workload
from rudder.source import ArraySource

pytest.importorskip("rudder._core")
LENGTH = 24
REQUEST = {"interval": 8, "model": None, "guard": True, "length": LENGTH}


@pytest.fixture(scope="module")
def load() -> Workload:
    """One whose link slows down early, and that takes no time but for its rows."""
    some = workload("bandwidth", 7, held_out=True)
    free = np.zeros(len(some))
    bandwidth = np.full(len(some), 4e6)
    bandwidth[10:20] = 1e6
    return replace(some, sampling_s=free, compute_s=free, bandwidth=bandwidth).until(64)


class Source(ArraySource):
    """The rows of a workload, one peer's; or what they must be says otherwise."""

    def __init__(self, load: Workload, wrong: int | None = None) -> None:
        rows = np.random.default_rng(0).integers(0, 256, (load.id_space, load.row_bytes), dtype=np.uint8)
        super().__init__(rows, [0, 0, load.id_space])
        self.priors = {"vip": lambda: load.vip[0][1], "degree": lambda: load.degree}
        self.wrong = wrong

    def pull(self, ids: Any) -> Any:
        rows = super().pull(ids)
        if self.wrong in ids:
            rows[-1, -1] ^= 1
        return rows


def played(
    load: Workload, monkeypatch: pytest.MonkeyPatch, controller: str = "rule", wrong: int | None = None
) -> tuple[Run, list[dict[str, Any]]]:
    said: list[dict[str, Any]] = []

    class Heard:
        def send(self, **value: Any) -> None:
            said.append(value)

    monkeypatch.setattr("sys.stdin", io.StringIO("{}\n"))
    source: Any = Source(load, wrong)
    outlet: Any = Heard()
    return Trainer(load, source, REQUEST, outlet).run(controller), said


def test_a_trainer_asks_for_the_links_of_its_workload(
    load: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, said = played(load, monkeypatch)
    assert said == [{"rate": 4e6}, {"ready": True}, {"rate": 1e6}, {"rate": 4e6}]
    ids = load.ids[: load.offsets[LENGTH]]
    assert len(np.unique(ids)) <= found.rows_moved <= len(ids)
    assert found.controller == "rule"
    assert found.step_ms > 0


def test_a_trainer_checks_every_row(load: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    last = int(load.ids[load.offsets[LENGTH] - 1])
    with pytest.raises(VerifyError, match="rows differ"):
        played(load, monkeypatch, wrong=last)


def test_a_workload_until_a_minibatch_is_the_beginning_of_it(load: Workload) -> None:
    some = load.until(12)
    assert len(some) == 12
    assert len(some.ids) == some.offsets[-1] == load.offsets[12]
    assert list(some.bandwidth) == [4e6] * 10 + [1e6] * 2
    assert len(load.until(1000)) == len(load)


def measured(name: str, controller: str, step_ms: float, modelled: float | None) -> Measured:
    return Measured(name, Run(controller, step_ms, 10, 1, 0, 0), modelled)


def test_gains_are_over_the_default_plan_of_the_same_workload() -> None:
    found = [
        *(measured("a:1", *each) for each in (("default", 100.0, 90.0), ("rule", 90.0, 81.0))),
        *(measured("b:1", *each) for each in (("default", 10.0, 10.0), ("rule", 12.0, 10.0))),
        *(measured(name, AGAIN, ms, None) for name, ms in (("a:1", 100.0), ("b:1", 10.0))),
    ]
    assert gains(found, "rule", lambda each: each.run.step_ms) == pytest.approx([0.1, -0.2])
    shown = table(found)
    assert [str(cell) for cell in shown.columns[0].cells] == ["rule", AGAIN]
    assert [str(cell)[:6] for cell in shown.columns[1].cells] == ["-5.00%", "+0.00%"]
    assert [str(cell) for cell in shown.columns[3].cells] == ["-20.00%", "+0.00%"]
    assert [str(cell)[:6] for cell in shown.columns[4].cells] == ["+5.00%", "-"]
    assert found[0].as_json() == {
        "workload": "a:1",
        "controller": "default",
        "measured_step_ms": 100.0,
        "modelled_step_ms": 90.0,
        "rows_moved": 10,
        "changes": 1,
        "rolled_back": 0,
        "late": 0,
    }


@pytest.mark.parametrize(
    ("settings", "options", "says"),
    [
        (AgentSettings(kinds=("memory",)), {}, "plays generated workloads"),
        (AgentSettings(kinds=("steady",)), {"at_once": 0}, "must be positive"),
        (AgentSettings(kinds=("steady",)), {"length": 0}, "must be positive"),
    ],
)
def test_what_cannot_be_played_is_refused(
    settings: AgentSettings, options: dict[str, int], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        run(settings, **{"at_once": 1, "length": 8, **options})
