"""What the terminal shows of a study: what it will cost, how it goes on, what is missing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from rich import box
from rich import progress as bars
from rich.markup import escape
from rich.table import Table

from underfire.cli.progress import Progress, console, empty_bars, say
from underfire.cli.show import duration, say_failed
from underfire.core import Outcome, UnderfireError
from underfire.report.text import count, number
from underfire.study.crossing import MissingJudgements
from underfire.study.plan import Study
from underfire.study.planned import PlannedAudit
from underfire.study.run import StudyRun, run_study


def show_study(study: Study, out: Path | None, samples: int) -> StudyRun:
    """Run a study, and print what it will cost, how it goes on and what has failed."""
    start = time.monotonic()
    with StudyProgress() as listener:
        ran = run_study(study, out, listener, samples)
    say(f"Done in {duration(time.monotonic() - start)}.")
    for name, why in ran.stopped.items():
        say(f"Not finished: {name}. {why}")
    say_failed(list(ran.errors))
    if ran.page:
        say(f"The study: {ran.page}")
    return ran


class StudyProgress:
    """A listener with a table of what is missing, bars of the steps that run, and a line for each step that is done."""

    def __init__(self) -> None:
        self._bars = empty_bars("judgements")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def planned(self, audits: Sequence[PlannedAudit], across: MissingJudgements) -> None:
        """Print the table."""
        table = Table(title="What is missing, at most", box=box.SIMPLE_HEAD, title_justify="left")
        table.add_column("audit", overflow="fold")
        table.add_column("interpreters", overflow="fold")
        for name in ("photos", "passes", "time"):
            table.add_column(name, justify="right")
        for one in audits:
            names = ", ".join(one.audit.settings.interpreter)
            table.add_row(one.audit.folder, names, str(len(one.plan.photos)), *_cost(one.passes, one.seconds))
        table.add_row("judgements across audits", "", "", *_cost(across.passes, across.seconds))
        passes = across.passes + sum(one.passes for one in audits)
        seconds = across.seconds + sum(one.seconds for one in audits)
        table.add_row("all of it", "", "", *_cost(passes, seconds))
        console.print(table)

    def note(self, text: str) -> None:
        """Print a line."""
        say(text)

    def step(self, n: int, of: int, name: str) -> StepProgress:
        """Give a step its bars."""
        return StepProgress(self._bars, f"[{n}/{of}] {name}")


class StepProgress(Progress):
    """The bars of one step among those of others, and a line in their place once it is done.

    Args:
        shared: the display of all of them.
        name: of the step.
    """

    def __init__(self, shared: bars.Progress, name: str) -> None:
        super().__init__(shared=shared)
        self._name = name
        self._shown: list[bars.TaskID] = []
        self._began, self._judged, self._missing = time.monotonic(), 0, 0

    def begin(self, stage: str, total: int, done: int) -> None:
        """Start a new bar with the step's name."""
        super().begin(stage, total, done)
        self._bars.update(self._tasks[stage], description=escape(self._name))
        self._shown.append(self._tasks[stage])
        self._missing += total - done

    def advance(self, outcome: Outcome) -> None:
        """Count a unit that is done or has failed."""
        super().advance(outcome)
        self._judged += outcome.rows

    def __exit__(self, *error: object) -> None:
        for task in self._shown:
            self._bars.remove_task(task)
        if error[0] is None:
            self._say_done()
        elif isinstance(error[1], UnderfireError):
            say(f"{self._name}: stopped. {error[1]}")

    def _say_done(self) -> None:
        took = f"{count(self._judged, 'judgement')} in {duration(time.monotonic() - self._began)}"
        won = f", {self.won(self._wins, self._shots)}" if self._shots else ""
        failed = f", {count(self._failed, 'unit')} failed" if self._failed else ""
        nothing = "done before" if self._shown and not self._missing else "nothing to do"
        say(f"{self._name}: {took + won + failed if self._judged else nothing}")


def _cost(passes: float, seconds: float) -> tuple[str, str]:
    return number(passes), duration(seconds)
