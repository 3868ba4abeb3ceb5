"""What a person sees while the demonstration runs: one line for each of its steps, on stderr."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

TITLES = {"stock": "stock DistDGL", "rudder": "with Rudder"}


class Screen:
    """Progress of the partitioning and of both runs. A context manager."""

    def __init__(self) -> None:
        """Nothing shown yet."""
        self._progress = Progress(
            TextColumn("{task.description:14}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[words]}"),
            # A descriptor of its own: what DGL's C++ writes to stderr meanwhile is sent elsewhere.
            console=Console(file=os.fdopen(os.dup(sys.stderr.fileno()), "w")),
            # DGL's prints are caught by swapping sys.stdout, which this must not do a second time.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Screen:
        """Show it."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state on the screen."""
        self._progress.stop()

    def stage(self, words: str) -> None:
        """Partitioning does this now."""
        task = self._task("partitions", total=None)
        self._progress.update(task, words=words)

    def partitions_ready(self, words: str) -> None:
        """Partitioning is done."""
        task = self._task("partitions", total=None)
        self._progress.update(task, total=1, completed=1, words=words)
        self._progress.stop_task(task)

    def begin(self, variant: str) -> None:
        """A run begins."""
        self._task(TITLES[variant], total=None, words="starting servers and trainers")

    def news(self, variant: str, news: dict[str, Any]) -> None:
        """A run has come further; see `train` for what it tells."""
        task = self._tasks[TITLES[variant]]
        if "step" in news:
            words = f"epoch {news['epoch'] + 1}, loss {news['loss']:.3f}"
            self._progress.update(task, total=news["steps"], completed=news["step"], words=words)
        elif "evaluated" in news:
            self._progress.update(task, words=f"evaluating, {news['evaluated']} of {news['evaluations']}")

    def end(self, variant: str) -> None:
        """A run is over."""
        task = self._tasks[TITLES[variant]]
        self._progress.update(task, words="done")
        self._progress.stop_task(task)

    def _task(self, name: str, total: int | None, words: str = "") -> TaskID:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total, words=words)
        return self._tasks[name]
