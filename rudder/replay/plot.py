"""Outcomes as a picture: rows against capacity, rows against window, and what is left of the gap to MIN."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rudder.pictures import check
from rudder.replay.outcome import Outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Series: name -> x -> values of all traces, whose median is drawn.
Series = dict[str, dict[Any, list[float]]]


def draw(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write a picture (.png, .pdf or .svg) of medians over traces. Raises ConfigError as `check` does."""
    check(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.5), layout="constrained")
    capacity, window, gap = figure.subplots(1, 3)
    _lines(capacity, _collect(outcomes, _name, _capacity, lambda outcome: outcome.times_none))
    capacity.set(
        xlabel=_capacity_label(outcomes), ylabel="rows moved / no buffer", title="Rows against capacity"
    )
    looking = [outcome for outcome in outcomes if outcome.window is not None]
    _lines(
        window,
        _collect(
            looking,
            lambda outcome: " ".join((_capacity_name(outcome), outcome.sharing or "")).rstrip(),
            lambda outcome: str(outcome.window),
            lambda outcome: outcome.times_none,
        ),
    )
    window.set(xlabel="window (buffers, or b: minibatches)", ylabel="rows moved / no buffer")
    window.set_title("Rows against window")
    _bars(gap, _collect(outcomes, _capacity_name, _name, lambda outcome: outcome.gap_left))
    gap.set(ylabel="0: MIN, 1: no buffer", title="Share of the gap to MIN that is left")
    figure.savefig(path)


def _collect(
    outcomes: Sequence[Outcome],
    series: Callable[[Outcome], str],
    position: Callable[[Outcome], Any],
    value: Callable[[Outcome], float | None],
) -> Series:
    found: Series = {}
    for outcome in outcomes:
        number = value(outcome)
        if number is not None:
            found.setdefault(series(outcome), {}).setdefault(position(outcome), []).append(number)
    return found


def _lines(axes: Axes, series: Series) -> None:
    for name, points in series.items():
        places = sorted(points) if all(isinstance(place, (int, float)) for place in points) else list(points)
        axes.plot(places, [statistics.median(points[place]) for place in places], marker="o", label=name)
    axes.set_ylim(bottom=0)
    if series:
        axes.legend(fontsize="small")


def _bars(axes: Axes, series: Series) -> None:
    names = list(dict.fromkeys(place for points in series.values() for place in points))
    width = 0.8 / max(1, len(series))
    for number, (label, points) in enumerate(series.items()):
        held = [(at, points[name]) for at, name in enumerate(names) if name in points]
        axes.bar(
            [at + number * width for at, _ in held],
            [statistics.median(values) for _, values in held],
            width,
            label=label,
        )
    axes.set_xticks([at + 0.4 - width / 2 for at in range(len(names))], names, rotation=45, ha="right")
    if series:
        axes.legend(fontsize="small")


def _name(outcome: Outcome) -> str:
    parts = (outcome.policy, "" if outcome.window is None else f"w={outcome.window}", outcome.sharing or "")
    return " ".join(part for part in parts if part)


def _capacity(outcome: Outcome) -> float:
    return outcome.capacity_rows if outcome.capacity_fraction is None else outcome.capacity_fraction


def _capacity_name(outcome: Outcome) -> str:
    return f"capacity {_capacity(outcome):g}"


def _capacity_label(outcomes: Sequence[Outcome]) -> str:
    shares = all(outcome.capacity_fraction is not None for outcome in outcomes)
    return "capacity (share of the halo)" if shares else "capacity (rows)"
