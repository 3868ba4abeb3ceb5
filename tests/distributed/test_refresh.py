"""Priors made anew by the trainers of a running job."""

from __future__ import annotations

import pytest

import rudder  # noqa: F401  (lets DGL import)

pytest.importorskip("torch")
pytest.importorskip("dgl")


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    from rudder.graphs import generate
    from rudder.partition import partition_graph

    graph = generate(2000, 20_000, num_classes=4, feature_dim=4)
    out = tmp_path_factory.mktemp("refresh") / "parts"
    report = partition_graph(graph, out, name="g", parts=2, fanouts=[3, 5], batch_size=20, trainers=2)
    return report.part_config


def test_trainers_agree_with_the_prior_made_when_partitioning(launcher, parts, workers):
    worker = str(workers / "refresh.py")
    code, output = launcher.run(
        *("--local", "2", "--trainers", "2", "--part-config", parts),
        *("--", worker, "{ip_config}", "{part_config}"),
    )
    assert code == 0, output
    assert output.count("kind vip trainers 2 same True seeds True changed True") == 4, output
