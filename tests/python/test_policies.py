"""Settings and priors of policies: what a live run does with them, and its record after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rudder import ArraySource, Evidence, Options, Plan, PolicySettings, Prefetcher, _core
from rudder.errors import ConfigError
from rudder.replay import Outcome, Request, Window, find_traces, load_case, replay_case
from rudder.trace import Call, TraceFile

ROWS, LOCAL, CAPACITY = 1000, 300, 60
TABLE = np.arange(ROWS * 3, dtype=np.int16).reshape(ROWS, 3)


def minibatches() -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    share = rng.pareto(1.2, ROWS)
    return [rng.choice(ROWS, 80, p=share / share.sum()) for _ in range(30)]


ASKED = minibatches()


def some_worth(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).pareto(1.0, ROWS).astype(np.float32)


VIP, DEGREE = some_worth(1), some_worth(2)


def source(**settings: Any) -> ArraySource:
    settings.setdefault("priors", {"vip": lambda: VIP, "degree": lambda: DEGREE})
    return ArraySource(TABLE, [0, LOCAL, ROWS], **settings)


def run(
    policy: str, settings: PolicySettings | None = None, *, epochs: int = 2, **options: Any
) -> dict[str, int]:
    """Rows that a run of some epochs moved, and those it fetched to replace others."""
    table_source = options.pop("source", None) or source()
    options = {"capacity": CAPACITY, "plan": Plan(interval=4, window=2), "guard": False, **options}
    with Prefetcher(
        table_source, Options(policy=policy, policy_settings=settings or PolicySettings(), **options)
    ) as table:
        loader = table.iterate(ASKED, epochs=epochs)
        for _ in range(epochs):
            for ids in loader:
                assert np.array_equal(table[ids], TABLE[ids])
    found = table.metrics()
    return {
        "rows_moved": found.rows_moved,
        "rows_requested": found.rows_requested,
        "replacement_rows": found.rows_replaced,
    }


def replay(folder: Path, **request: Any) -> Outcome:
    (path,) = find_traces([folder])
    (outcome,) = replay_case(load_case(path), Request(**request))
    return outcome


def of(outcome: Outcome) -> dict[str, int]:
    return {
        "rows_moved": outcome.rows_moved,
        "rows_requested": outcome.rows_requested,
        "replacement_rows": outcome.replacement_rows,
    }


# -- priors


def test_each_static_policy_ranks_rows_by_its_own_prior() -> None:
    moved = {name: run(f"static-{name}")["rows_moved"] for name in ("vip", "degree", "frequency")}
    assert len(set(moved.values())) == 3
    ids = np.concatenate([each[each >= LOCAL] for each in ASKED * 2])
    offsets = np.cumsum([0, *(np.count_nonzero(each >= LOCAL) for each in ASKED * 2)])
    for name, worth in (("vip", VIP), ("degree", DEGREE)):
        remote = np.where(np.arange(ROWS) < LOCAL, np.float32(0), worth)
        answer = _core.replay(ids, offsets, f"static-{name}", CAPACITY, prior=remote, depth=2)
        assert moved[name] == answer["rows_moved"], name
    # Having counted an epoch of the very accesses, it beats worth drawn at random.
    assert moved["frequency"] < min(moved["vip"], moved["degree"])


@pytest.mark.parametrize(
    ("policy", "prior"),
    [
        *(("static-vip", prior) for prior in ("degree", "frequency", "none", "recency", None)),
        *(("static-degree", prior) for prior in ("vip", "frequency", "none")),
        *(("static-frequency", prior) for prior in ("vip", "degree", "none")),
    ],
)
def test_a_prior_that_makes_it_another_policy_is_refused(policy: str, prior: str | None) -> None:
    with pytest.raises(ConfigError, match=f"{policy} ranks rows by"):
        Options(policy=policy, prior=prior)


def test_priors_that_static_policies_take() -> None:
    assert run("static-vip", prior="vip") == run("static-vip") == run("static-degree", prior=VIP)
    assert run("static-degree", prior="degree") == run("static-degree") != run("static-degree", prior=VIP)
    assert run("static-frequency", prior=VIP) == run("static-vip")  # a set from the start: nothing is counted


@pytest.mark.parametrize("policy", ["static-vip", "static-degree"])
def test_a_static_policy_wants_its_prior(policy: str) -> None:
    with pytest.raises(ConfigError, match=r"no (vip|degree) here"):
        run(policy, source=source(priors={}))
    with Prefetcher(ArraySource(TABLE, [0, ROWS]), Options(policy=policy)) as table:  # all rows are local
        assert np.array_equal(table[[5]], TABLE[[5]])
    assert run("lookahead", source=source(priors={}))["rows_moved"] > 0  # does without


def test_a_plan_cannot_make_it_another_policy() -> None:
    class Wrong:
        def decide(self, evidence: Evidence) -> Plan:
            return evidence.plan.but(prior="degree")

    with Prefetcher(
        source(), Options(policy="static-vip", controller=Wrong(), plan=Plan(interval=4))
    ) as table:
        for ids in table.iterate(ASKED, epochs=1):
            table[ids]
        assert table.plan.prior == "vip"
        assert table.metrics().refused_decisions > 0
        with pytest.raises(ConfigError, match="static-vip ranks rows by vip"):
            table.replan(prior="degree")


def test_recency_is_the_order_of_the_last_requests(tmp_path: Path) -> None:
    """One row of buffer and no window: the latest row stays, whatever VIP says of it."""
    first, second = LOCAL, LOCAL + 1
    worth = np.zeros(ROWS, dtype=np.float32)
    worth[first] = 1.0

    def moved(prior: str) -> int:
        options = Options(
            capacity=1, prior=prior, plan=Plan(window=0, depth=1), record=tmp_path / prior, gap_meter=False
        )
        with Prefetcher(source(priors={"vip": lambda: worth}), options) as table:
            for row in (first, second, second, second):
                table[[row]]
        return table.metrics().rows_moved

    assert moved("recency") == moved("none") == 2
    assert moved("vip") == 4  # `second` is worth nothing, and passes by the buffer
    assert replay(tmp_path / "recency").rows_moved == 2
    request: dict[str, Any] = {"policies": ("lookahead",), "windows": (Window(),)}
    assert replay(tmp_path / "vip", **request, prior="recency").rows_moved == 2
    assert replay(tmp_path / "vip", **request).rows_moved == 4


# -- what static-frequency counts


def test_static_frequency_counts_as_many_minibatches_as_it_is_told(tmp_path: Path) -> None:
    found = {}
    for observe in (3, 10, 50):
        folder = tmp_path / str(observe)
        found[observe] = run("static-frequency", PolicySettings(observe=observe), record=folder)
        recorded = replay(folder)
        assert (recorded.live, of(recorded)) == (True, found[observe])
        other = replay(folder, staged=2, policy_settings={"observe": observe})
        assert (other.live, of(other)) == (False, found[observe])
        assert of(replay(folder, staged=2)) == found[observe]  # as recorded
        assert of(replay(folder, staged=2, policy_settings={"observe": observe + 1})) != found[observe]
    assert len({each["rows_moved"] for each in found.values()}) == 3


def test_static_frequency_counts_an_epoch_where_nothing_is_said(tmp_path: Path) -> None:
    moved = run("static-frequency", epochs=3, record=tmp_path)
    assert of(replay(tmp_path)) == moved
    (path,) = find_traces([tmp_path])
    names = [entry.name for entry in TraceFile(path) if isinstance(entry, Call)]
    assert names.count("observe") == 1
    executed = names[: names.index("observe")].count("execute")
    assert len(ASKED) <= executed <= len(ASKED) + Plan().depth  # what was fetched ahead of the next epoch
    never = run("static-frequency", PolicySettings(observe=10**6), epochs=3)
    assert moved["rows_moved"] < never["rows_moved"]


# -- score


SCORES = [
    PolicySettings(period=4),
    PolicySettings(period=4, alpha=0.2),
    PolicySettings(period=8),
    PolicySettings(period=0, alpha=0.1),
    PolicySettings(prefill=True, period=4),
]


def test_recorded_scores_replay_exactly_whatever_their_settings(tmp_path: Path) -> None:
    rows = []
    for number, settings in enumerate(SCORES):
        folder = tmp_path / str(number)
        rows.append(run("score", settings, record=folder))
        outcome = replay(folder)
        assert (outcome.live, of(outcome)) == (True, rows[-1]), settings
        assert rows[-1]["replacement_rows"] > 0
    assert len({each["rows_moved"] for each in rows}) == len(SCORES)


@pytest.mark.parametrize("policy", ["static-vip", "static-degree"])
def test_static_policies_may_begin_with_their_rows(policy: str, tmp_path: Path) -> None:
    moved = run(policy, PolicySettings(prefill=True), record=tmp_path)
    assert moved["replacement_rows"] > 0
    assert of(replay(tmp_path)) == moved
    assert run(policy)["replacement_rows"] == 0


class Says:
    """Yes or no to replacements; keeps what it saw."""

    def __init__(self, answer: bool) -> None:
        self.answer = answer
        self.replaced: list[int] = []

    def decide(self, evidence: Evidence) -> Plan:
        self.replaced.append(evidence.metrics.rows_replaced)
        return evidence.plan.but(replace=self.answer)


def test_with_a_period_of_0_the_controller_decides() -> None:
    settings = PolicySettings(period=0, alpha=0.1)
    yes, no = Says(True), Says(False)
    assert run("score", settings, controller=yes, epochs=5)["replacement_rows"] > 0
    assert sum(replaced > 0 for replaced in yes.replaced) > 1
    # Nothing is stale at the first plan's yes; afterwards there is none.
    assert run("score", settings, controller=no, epochs=5)["replacement_rows"] == 0


def test_a_plan_limits_what_a_replacement_exchanges_and_its_record_replays(tmp_path: Path) -> None:
    settings = PolicySettings(period=0, alpha=0.1)

    class Cautious:
        def decide(self, evidence: Evidence) -> Plan:
            return evidence.plan.but(fraction=25 if evidence.metrics.interval < 10 else 50)

    moved = run("score", settings, controller=Cautious(), epochs=5, record=tmp_path)
    # Seldom more than a quarter of the buffer for each of the first intervals.
    assert 0 < moved["replacement_rows"] < run("score", settings, epochs=5)["replacement_rows"]
    (path,) = find_traces([tmp_path])
    said = [entry.number for entry in TraceFile(path) if isinstance(entry, Call) and entry.name == "fraction"]
    assert said == [25, 50]
    assert of(replay(tmp_path)) == moved


def test_a_replay_on_demand_replaces_at_each_interval(tmp_path: Path) -> None:
    run("lookahead", record=tmp_path)
    moved = {}
    for interval in (4, 7, 1000):
        moved[interval] = replay(
            tmp_path, policies=("score",), interval=interval, policy_settings={"period": 0, "alpha": 0.1}
        )
    assert moved[4].replacement_rows > 0 == moved[1000].replacement_rows
    assert len({each.rows_moved for each in moved.values()}) == 3
    # 4 is the recorded run's own interval.
    own = replay(tmp_path, policies=("score",), policy_settings={"period": 0, "alpha": 0.1})
    assert of(own) == of(moved[4])


def test_score_puts_in_rows_of_the_halo_alone(tmp_path: Path) -> None:
    settings = PolicySettings(period=4, alpha=0.2)
    halo = np.arange(LOCAL, ROWS)[::2]
    everywhere = run("score", settings, capacity=CAPACITY)
    near = run("score", settings, source=source(halo_ids=halo), record=tmp_path / "score")
    assert 0 < near["replacement_rows"] != everywhere["replacement_rows"]
    assert of(replay(tmp_path / "score")) == near
    nobody_asks = np.setdiff1d(np.arange(LOCAL, ROWS), np.concatenate(ASKED))
    none = run("score", settings, source=source(halo_ids=nobody_asks))
    assert none["replacement_rows"] == 0
    # Whatever the prior says of rows beyond it, and however little of those within.
    assert run("score", settings, source=source(halo_ids=halo), prior="none") == near
    assert run("score", settings, source=source(halo_ids=halo), prior="vip") == near
    # A run under another policy knows the halo, too.
    run("lookahead", source=source(halo_ids=halo), record=tmp_path / "other")
    (path,) = find_traces([tmp_path / "other"])
    case = load_case(path)
    asked: dict[str, Any] = {"policies": ("score",), "policy_settings": {"period": 4, "alpha": 0.2}}
    (score,) = replay_case(case, Request(**asked))
    among_halo = np.isin(case.nodes, halo).astype(np.float32)
    wanted = _core.replay(case.ids, case.offsets, "score", CAPACITY, prior=among_halo, period=4, alpha=0.2)
    assert (score.rows_moved, score.replacement_rows) == (wanted["rows_moved"], wanted["replacement_rows"])
    assert of(replay(tmp_path / "other", **asked, staged=2)) == near


@pytest.mark.parametrize(
    "wrong",
    [{"prefill": 1}, {"observe": 0}, {"period": -1}, {"period": 2**32}, {"alpha": 0.0}, {"alpha": 1.0}],
)
def test_settings_that_cannot_work(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        PolicySettings(**wrong)
