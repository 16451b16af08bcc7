"""What the terminal shows of a study: what it will cost, how it goes on, what is missing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from underfire.cli.progress import Progress, console, say
from underfire.cli.show import duration, say_failed
from underfire.report.text import number
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


class StudyProgress(Progress):
    """A listener that shows a table of what is missing, and then, for each step, a line and the bars of an audit."""

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

    def step(self, n: int, of: int, name: str) -> None:
        """Print a line, with new bars below it."""
        self.stop()
        say(f"[{n}/{of}] {name}")
        self.__enter__()


def _cost(passes: float, seconds: float) -> tuple[str, str]:
    return number(passes), duration(seconds)
