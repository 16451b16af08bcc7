"""The progress of a search, in a terminal or a notebook: steps, time left, how many have reached their class."""

from __future__ import annotations

import sys
import time
from typing import Self

from rich import progress as bars
from rich.console import Console

from underfire.core.watch import Glimpse
from underfire.notebook.views import in_notebook

EVERY = 0.1
"""Seconds from one look to the next: a bar needs no more, and searches on small networks take milliseconds a step."""


class StepBar:
    """A watcher with a bar that counts the steps of a search.

    Args:
        what: what is attacked, in words.
        n: images in the batch.
    """

    def __init__(self, what: str, n: int) -> None:
        self.what, self.n = what, n
        self._bars = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.TextColumn("step"),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.fields[note]}"),
            bars.TimeRemainingColumn(),
            console=Console(stderr=not in_notebook()),
            transient=True,
        )
        self._task: bars.TaskID | None = None
        self._last = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            self._bars.stop()

    def see(self, glimpse: Glimpse) -> bool:
        """Move the bar; the search goes on."""
        now = time.monotonic()
        if self._task is not None and now - self._last < EVERY:
            return False
        self._last = now
        if self._task is None:
            self._bars.start()
            self._task = self._bars.add_task(self.what, total=glimpse.steps, note="")
        done = self.n - len(glimpse.rows)
        there = done + int(glimpse.reached.sum())
        self._bars.update(self._task, completed=glimpse.step, note=f"{there} of {self.n} at their class")
        return False


def someone_looks() -> bool:
    """Tell whether somebody sits before this: a notebook or a terminal."""
    return in_notebook() or sys.stderr.isatty()
