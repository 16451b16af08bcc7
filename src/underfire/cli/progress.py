"""Progress in the terminal: bars that listen to an audit."""

from __future__ import annotations

import time
from typing import Self

from rich import progress as bars
from rich.console import Console

from underfire.cli.streams import plain
from underfire.core import ForgeUnit, JudgeUnit, Outcome, ScaleUnit

console = Console(stderr=False)
"""The terminal."""


def say(line: str) -> None:
    """Print one line as it is, or several; what would steer the terminal is escaped."""
    console.print(plain(line, keep="\n"), soft_wrap=True, markup=False, highlight=False, emoji=False)


STAGES = {
    ScaleUnit.stage: "Clean maps",
    ForgeUnit.stage: "Attacking",
    JudgeUnit.stage: "Judging",
    "calibrate": "Scoring",
    "check": "Checking",
    "survive": "Treating",
    "yardstick": "Measuring",
}
"""Stage -> word at its bar."""


def empty_bars(counted: str) -> bars.Progress:
    """Make the display that the bars stand in."""
    return bars.Progress(
        bars.TextColumn("{task.description:<10}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn(counted),
        bars.TextColumn("{task.fields[rate]}"),
        bars.TimeRemainingColumn(),
        bars.TextColumn("{task.fields[note]}"),
        console=console,
        refresh_per_second=4,
    )


class Progress:
    """A listener with a bar for each stage: how much is done, its pace, time left, success rate, failed units.

    Args:
        counted: what the bars count.
        shared: a display that other bars stand in too, and that is somebody else's to stop.
    """

    def __init__(self, counted: str = "judgements", shared: bars.Progress | None = None) -> None:
        self._bars = empty_bars(counted) if shared is None else shared

    def __enter__(self) -> Self:
        self._task: bars.TaskID | None = None
        self._tasks: dict[str, bars.TaskID] = {}
        self._here: dict[str, int] = {}
        self._wins = self._shots = self._failed = 0
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the bars as they are."""
        if self._task is not None:
            self._bars.stop()

    def begin(self, stage: str, total: int, done: int) -> None:
        """Start a new bar."""
        self._bars.start()
        self._task = self._bars.add_task(STAGES[stage], total=total, completed=done, rate="", note="")
        self._tasks[stage] = self._task
        self._here[stage], self._start = 0, time.monotonic()
        if done:
            self._bars.update(self._task, note=f"{done} from an earlier run")

    def advance(self, outcome: Outcome) -> None:
        """Count a unit that is done or has failed."""
        stage, n = outcome.unit.stage, outcome.rows
        self._here[stage] += n
        self._failed += outcome.error is not None
        rate = f"{self._here[stage] / max(1e-9, time.monotonic() - self._start):.2f}/s"
        note = ""
        if stage == ForgeUnit.stage:
            self._wins, self._shots = self._wins + outcome.reached, self._shots + outcome.good
            note = self.won(self._wins, self._shots)
        if self._failed:
            from underfire.report.text import count

            note += f", {count(self._failed, 'unit')} failed"
        self._bars.update(self._tasks[stage], advance=n, rate=rate, note=note)

    @staticmethod
    def won(wins: int, shots: int) -> str:
        """Say the success rate so far in words."""
        from underfire.report.text import percent  # the page's own code, which a list of names does without

        return f"success {percent(wins / shots, shots)}" if shots else "no result yet"

    def done(self, n: int) -> None:
        """Set how many are done, where there are no outcomes."""
        if self._task is not None:
            self._bars.update(self._task, completed=n)

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        self._bars.console.print(plain(text), soft_wrap=True, markup=False, highlight=False, emoji=False)
