"""The oracle takes what is best on what really comes next, and nothing of it happens."""

from __future__ import annotations

from rudder.plan import Plan
from rudder.rollout.drive import drive
from rudder.rollout.generate import workload
from rudder.rollout.oracle import OracleController
from rudder.rollout.simulator import Simulator


def test_it_takes_what_is_best_later() -> None:
    simulator = Simulator(workload("memory", 1), shadow=False)
    for _ in range(3):
        evidence = simulator.step(Plan())
    cost, at = simulator.cost_of(2), simulator.next
    answer = OracleController(simulator).decide(evidence)
    assert simulator.next == at
    assert all(cost(answer) <= cost(simulator.space.bounded(Plan(), plan)) for plan in _singles(simulator))


def _singles(simulator: Simulator) -> list[Plan]:
    return list(simulator.space.candidates(Plan()).values())


def test_it_gains_where_there_is_something_to_gain() -> None:
    load = workload("bandwidth", 1001, held_out=True)
    stay = drive(load, lambda _: _Stays(), shadow=False)
    found = drive(workload("phases", 1001, held_out=True), OracleController, shadow=False)
    same = drive(workload("phases", 1001, held_out=True), lambda _: _Stays(), shadow=False)
    assert stay.changes == same.changes == 0
    assert found.step_ms < 0.97 * same.step_ms


class _Stays:
    def decide(self, evidence) -> Plan:
        return evidence.plan
