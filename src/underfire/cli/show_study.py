"""What the terminal shows of a study: what it will cost, how it goes on, what is missing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from underfire.audit import transfer
from underfire.cli.progress import StudyProgress, console, say
from underfire.cli.show import duration, say_failed
from underfire.store import Store
from underfire.study import crossing, run
from underfire.study import plan as plan_
from underfire.study.agenda import Agenda
from underfire.study.page import write_study
from underfire.study.plan import default_out, home


def run_study(
    plan: Path | None, flags: Mapping[str, Any], quick: bool, out: Path | None, samples: int
) -> tuple[int, int]:
    """Say what a study will cost, run what is missing of it, and write its page.

    Returns:
        How many judgements failed, those of audits that could not be run among them, and how many did not.
    """
    start = time.monotonic()
    asked = plan_.asked(plan, flags, quick)
    out = out or (home(plan) if plan else None) or default_out(asked)
    agenda = Agenda(asked)
    for classifier, interpreter, why in agenda.left_out:
        say(f"Left out: {interpreter} on {classifier}. {why}")
    planned = run.estimate(agenda, out)
    _show_estimate(agenda, planned, out)
    with StudyProgress() as watcher:
        failed = run.run(agenda, planned, out, watcher)
    say(f"Done in {duration(time.monotonic() - start)}.")
    for name, why in failed.items():
        say(f"Not finished: {name}. {why}")
    rows = [row for one in planned for s in ("records", transfer.STAGE) for row in Store(out / one.part.folder).rows(s)]
    say_failed(rows)
    good = sum(row["error"] is None for row in rows)
    if good:
        say(f"The study: {write_study(out, samples)}")
    return len(rows) - good + len(failed), good


def _show_estimate(agenda: Agenda, planned: Sequence[crossing.Estimate], out: Path) -> None:
    table = Table(title="What is missing, at most", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("audit", overflow="fold")
    table.add_column("interpreters", overflow="fold")
    for name in ("photos", "passes", "time"):
        table.add_column(name, justify="right")
    for one in planned:
        settings = one.part.settings
        seconds = one.passes * one.seconds_a_pass
        row = (one.part.folder, ", ".join(settings.interpreter), str(len(one.plan.photos)), f"{one.passes:,.0f}")
        table.add_row(*row, duration(seconds))
    passes, seconds = crossing.estimate_transfer(agenda, planned, out)
    table.add_row("judgements across", "", "", f"{passes:,.0f}", duration(seconds))
    total = sum(one.passes for one in planned) + passes
    seconds += sum(one.passes * one.seconds_a_pass for one in planned)
    table.add_row("all of it", "", "", f"{total:,.0f}", duration(seconds))
    console.print(table)
