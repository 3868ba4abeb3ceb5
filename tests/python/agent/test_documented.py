"""docs/steering.md says what there is: controllers, outcomes, the values of each knob, and the defaults."""

from __future__ import annotations

import re
from pathlib import Path

from rudder.agent.balance import LONGEST_SLEEP, SLEEP, STRETCH
from rudder.agent.controller import CONTROLLERS
from rudder.agent.space import FRACTIONS, HALF_LIVES, LADDERS
from rudder.decisions import OUTCOMES
from rudder.options import Options
from rudder.plan import KEYS, Plan

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "steering.md").read_text(encoding="utf-8")
ROWS = [re.split(r"\s*\|\s*", line.strip("| ")) for line in TEXT.splitlines() if line.startswith("|")]


def test_controllers_and_outcomes_are_those_that_there_are() -> None:
    first = [row[0].strip("`") for row in ROWS]
    named = [name.partition(":")[0] for name in first]
    assert [name for name in named if name in CONTROLLERS] == list(CONTROLLERS)
    outcomes = [word.strip() for name in first for word in name.split(",")]
    assert [name for name in outcomes if name in OUTCOMES] == list(OUTCOMES)


def test_knobs_are_those_of_the_plan() -> None:
    knobs = {row[0].strip("`"): row for row in ROWS if row[0].strip("`") in KEYS}
    assert [(key, row[1].strip("`")) for key, row in knobs.items()] == list(KEYS.items())
    for key, name in (("w", "window"), ("d", "depth")):
        assert knobs[key][3] == " ".join(map(str, LADDERS[name]))
    assert knobs["h"][3] == " ".join(map(str, HALF_LIVES))
    assert knobs["f"][3] == " ".join(map(str, FRACTIONS))
    assert (LADDERS["buffer_share"][0], LADDERS["buffer_share"][-1]) == (50, 100)
    assert (LADDERS["interval"][0], LADDERS["interval"][-1]) == (8, 256)
    assert str(Plan()) in TEXT


def test_figures_are_those_of_the_code() -> None:
    assert f"{Options().shadow_share:.1%} by default" in TEXT
    assert f"After every {STRETCH} modelled" in TEXT
    assert f"for {SLEEP} intervals" in TEXT
    assert f"{LONGEST_SLEEP:,} at most" in TEXT
