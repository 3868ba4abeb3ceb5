"""Labelled decisions keep on disk what they were, and other files are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rudder.agent.evidence import COUNTERFACTUALS, SIGNALS
from rudder.agent.examples import read, signals_of, write
from rudder.errors import FormatError
from rudder.pilot.drill import drill


def test_examples_come_back_from_their_file(tmp_path: Path) -> None:
    made = [replace(one, gain=0.0125, weight=1.5, source="phases:3") for one in drill(40, seed=1)]
    write(made, tmp_path / "examples.tsv")
    assert read(tmp_path / "examples.tsv") == made


def test_the_numbers_of_a_line_come_by_their_keys() -> None:
    keys = (*SIGNALS, *COUNTERFACTUALS)
    line = "v1 w=4 | " + " ".join(f"{key}:{-place}" for place, key in enumerate(keys))
    assert signals_of(line) == {key: -place for place, key in enumerate(keys)}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("plan\t", "plans\t"),
        (" ss ", " xx "),
        ("\nv1 w=", "\nv1 z="),
        ("\tdrill", ""),
    ],
)
def test_another_file_is_refused(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "examples.tsv"
    write(drill(3, seed=1), path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(FormatError, match=r"examples\.tsv"):
        read(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"none\.tsv"):
        read(tmp_path / "none.tsv")
