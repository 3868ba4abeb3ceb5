from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rudder.errors import ConfigError, FormatError
from rudder.partition import PriorInfo, load_prior, prior_path, read_prior, save_prior

INFO = PriorInfo(
    fanouts=[10, {"a:x:b": 25}], batch_size=100, trainers=2, train_hash="00ff", part=1, num_parts=2
)


@pytest.fixture
def part_config(tmp_path: Path) -> Path:
    config = {
        "num_parts": 2,
        "ntypes": {"user": 1, "item": 0},
        "node_map": {"user": [[3, 7], [10, 14]], "item": [[0, 3], [7, 10]]},
        "part-0": {"part_graph": "part0/graph.dgl"},
        "part-1": {"part_graph": "part1/graph.dgl"},
    }
    for part in ("part0", "part1"):
        (tmp_path / part).mkdir()
    (tmp_path / "g.json").write_text(json.dumps(config))
    return tmp_path / "g.json"


def stored(part_config: Path, info: PriorInfo = INFO) -> dict[str, np.ndarray]:
    by_type = {"item": np.linspace(0, 1, 6, dtype=np.float32), "user": np.zeros(8, dtype=np.float32)}
    by_type["user"][5] = 0.25
    save_prior(prior_path(part_config, 1), by_type, info)
    return by_type


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=6),
        st.lists(st.one_of(st.just(0.0), st.floats(0, 1, width=32)), max_size=40),
        min_size=1,
        max_size=3,
    )
)
def test_reads_back_what_was_saved(
    tmp_path_factory: pytest.TempPathFactory, priors: dict[str, list[float]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "prior.npz"
    save_prior(path, {ntype: np.array(values, dtype=np.float32) for ntype, values in priors.items()}, INFO)
    by_type, info = read_prior(path)
    assert info == INFO
    assert list(by_type) == list(priors)
    for ntype, values in priors.items():
        assert by_type[ntype].dtype == np.float32
        assert by_type[ntype].tolist() == values


def test_stores_sparsely_only_where_that_is_smaller(tmp_path: Path) -> None:
    for share, sparse in ((0.1, True), (0.9, False)):
        values = (np.random.default_rng(0).random(10_000) < share).astype(np.float32)
        save_prior(tmp_path / "prior.npz", {"_N": values}, INFO)
        with np.load(tmp_path / "prior.npz") as archive:
            assert ("ids_0" in archive.files) == sparse
        assert (tmp_path / "prior.npz").stat().st_size < 42_000


def test_loads_one_type_of_one_partition(part_config: Path) -> None:
    by_type = stored(part_config)
    for ntype, values in by_type.items():
        assert np.array_equal(load_prior(part_config, 1, ntype), values)


def test_says_why_there_is_none(part_config: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert load_prior(part_config, 0, "user") is None
    assert "no prior at" in caplog.text
    caplog.clear()
    stored(part_config, replace(INFO, formula_version=0))
    with caplog.at_level(logging.WARNING):
        assert load_prior(part_config, 1, "user") is None
    assert "formula version 0" in caplog.text


def test_a_wrong_question_is_a_config_error(part_config: Path) -> None:
    with pytest.raises(ConfigError, match="none of number 2"):
        load_prior(part_config, 2, "user")
    with pytest.raises(ConfigError, match="no node type 'shop'"):
        load_prior(part_config, 1, "shop")
    with pytest.raises(ConfigError, match="say which"):
        load_prior(part_config, 1)


def test_a_prior_of_another_graph_is_refused(part_config: Path) -> None:
    by_type = stored(part_config)
    save_prior(prior_path(part_config, 0), by_type, INFO)
    with pytest.raises(FormatError, match="made for partition 1 of 2"):
        load_prior(part_config, 0, "item")
    save_prior(prior_path(part_config, 1), {"item": by_type["item"][:5]}, INFO)
    with pytest.raises(FormatError, match="with 5 nodes"):
        load_prior(part_config, 1, "item")


def test_every_truncation_is_a_format_error(part_config: Path) -> None:
    stored(part_config)
    path = prior_path(part_config, 1)
    whole = path.read_bytes()
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        with pytest.raises(FormatError):
            read_prior(path)


@pytest.mark.parametrize(
    "arrays",
    [
        {"values_0": np.zeros(3, np.float32)},
        {"header": np.array("{")},
        {"header": np.array("[]")},
        {"header": np.array(json.dumps({"format": "other", "version": 1}))},
        {"header": np.array(json.dumps({"format": "rudder-prior", "version": 99}))},
    ],
)
def test_other_archives_are_format_errors(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(FormatError):
        read_prior(tmp_path / "x.npz")


@pytest.mark.parametrize(
    "bad",
    [
        {"values_0": np.array([1, np.nan], dtype=np.float32)},
        {"values_0": np.array([1, -1], dtype=np.float32)},
        {"ids_0": np.array([0, 6])},
        {"ids_0": np.array([0])},
        {"values_0": np.array([1.0, 2.0])},
    ],
)
def test_bad_values_are_format_errors(tmp_path: Path, bad: dict[str, np.ndarray]) -> None:
    save_prior(tmp_path / "x.npz", {"_N": np.array([1, 0, 0, 0, 0, 1], dtype=np.float32)}, INFO)
    with np.load(tmp_path / "x.npz") as archive:
        arrays = {**archive, **bad}
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(FormatError):
        read_prior(tmp_path / "x.npz")


@pytest.mark.parametrize(
    "text", ["", "[1]", "{}", '{"num_parts": 2}', '{"num_parts": 2, "ntypes": {"a": 0}, "node_map": {}}']
)
def test_a_broken_part_config_is_a_format_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "g.json").write_text(text)
    with pytest.raises((FormatError, ConfigError)):
        load_prior(tmp_path / "g.json", 0)
