"""Progress in the terminal, of an audit, a study or a training."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Self

from rich import progress as bars
from rich.console import Console

from underfire.cli.streams import plain
from underfire.core import ForgeUnit, JudgeUnit, Outcome, ScaleUnit
from underfire.report.text import count, percent

console = Console(stderr=False)


def say(line: str) -> None:
    """Print one line as it is, or several; what would steer the terminal is escaped."""
    console.print(plain(line, keep="\n"), soft_wrap=True, markup=False, highlight=False)


STAGES = {
    ScaleUnit.stage: "Clean maps",
    ForgeUnit.stage: "Attacking",
    JudgeUnit.stage: "Judging",
    "calibrate": "Scoring",
    "check": "Checking",
}


class Progress:
    """A bar for each stage: judgements done and their pace, time left, success rate so far, failed units."""

    def __init__(self, counted: str = "judgements") -> None:
        self.counted = counted
        """What the bar counts."""

    def __enter__(self) -> Self:
        self._bars = bars.Progress(
            bars.TextColumn("{task.description:<10}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn(self.counted),
            bars.TextColumn("{task.fields[rate]}"),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[note]}"),
            console=console,
            refresh_per_second=4,
        )
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
        """Count a finished or failed unit."""
        stage, n = outcome.unit.stage, outcome.rows
        self._here[stage] += n
        self._failed += outcome.error is not None
        rate = f"{self._here[stage] / max(1e-9, time.monotonic() - self._start):.2f}/s"
        note = ""
        if stage == ForgeUnit.stage:
            self._wins, self._shots = self._wins + outcome.reached, self._shots + outcome.good
            note = self.won(self._wins, self._shots)
        if self._failed:
            note += f", {count(self._failed, 'unit')} failed"
        self._bars.update(self._tasks[stage], advance=n, rate=rate, note=note)

    @staticmethod
    def won(wins: int, shots: int) -> str:
        """Say the success rate so far."""
        return f"success {percent(wins / shots, shots)}" if shots else "no result yet"

    def done(self, n: int) -> None:
        """Set how many are done, where there are no outcomes."""
        if self._task is not None:
            self._bars.update(self._task, completed=n)

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        self._bars.console.print(plain(text), soft_wrap=True, markup=False, highlight=False)


class TrainProgress:
    """A bar for the steps with the objective's terms, and a line of figures for each epoch."""

    def __enter__(self) -> TrainProgress:
        self._bars = bars.Progress(
            bars.TextColumn("{task.description:<10}"),
            bars.BarColumn(bar_width=20),
            bars.MofNCompleteColumn(),
            bars.TextColumn("steps"),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[note]}"),
            console=console,
            refresh_per_second=2,
        )
        self._task: bars.TaskID | None = None
        self._means: dict[str, float] = {}
        return self

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            self._bars.stop()

    def begin(self, photos: int, validation: int, epochs: int, steps: int, epoch: int) -> None:
        """A bar over all epochs that may come."""
        say(
            f"{photos} photos to train on, {validation} of other classes to judge by"
            + (f"; going on after epoch {epoch}" if epoch else "")
        )
        self._bars.start()
        self._task = self._bars.add_task("Training", total=epochs * steps, completed=epoch * steps, note="")

    def step(self, epoch: int, terms: Mapping[str, float]) -> None:
        """A step more."""
        if self._task is None:
            return
        self._means = {name: 0.9 * self._means.get(name, value) + 0.1 * value for name, value in terms.items()}
        self._bars.update(
            self._task, advance=1, note=" ".join(f"{name} {value:.2f}" for name, value in self._means.items())
        )

    def figures(self, epoch: int, figures: Mapping[str, float], best: bool) -> None:
        """What an epoch brought."""
        say(
            f"epoch {epoch:3}: saliency metric {figures['saliency_metric']:+.3f}{' (best)' if best else ''}, the class "
            f"loses {figures['drop_top']:.3f} without the map's top 20 %, {figures['drop_random']:.3f} without a "
            "random 20 %"
        )
        if "forged_l1" in figures:
            say(
                f"           benign maps are {figures['benign_l1']:.3f} (L1) from the plain network's, forged ones "
                f"{figures['forged_l1']:.3f} from benign ones"
            )
