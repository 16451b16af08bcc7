"""The driver of a study: its audits one after the other, then the judgements across them. Resumed like any audit.

OUT/study.yaml          what was asked for, and the audits that it means
OUT/CLASSIFIER/...      one ordinary audit a folder: main-24, bends-8, random-8, eps1-12, ...
OUT/study.html          the page (page.py)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import yaml

from underfire.audit import run as audit_run
from underfire.audit.folder import refuse_other_plan, stored_plan
from underfire.core import Outcome, UnderfireError
from underfire.core.place import write_whole
from underfire.executors import process
from underfire.plan.device import devices
from underfire.plan.make import make_plan
from underfire.plan.units import Plan
from underfire.registry import VICTIMS
from underfire.report.page import write_report
from underfire.store import Store
from underfire.study.agenda import Agenda
from underfire.study.crossing import Estimate, crossings
from underfire.study.plan import read
from underfire.study.results import FILE


class Watcher(Protocol):
    """Who is told how a study goes on."""

    def part(self, n: int, of: int, name: str) -> None:
        """The n-th part starts."""

    def begin(self, stage: str, total: int, done: int) -> None:
        """As in an audit."""

    def advance(self, outcome: Outcome) -> None:
        """As in an audit."""

    def note(self, text: str) -> None:
        """As in an audit."""


def estimate(agenda: Agenda, out: Path) -> list[Estimate]:
    """Every audit planned; passes and seconds at most of what is missing.

    Raises:
        UnderfireError: mistakes of a plan, and an ``out`` that holds another study, or another plan's results.
    """
    _refuse_another(agenda, out)
    speed: dict[int, float] = {}
    found = []
    for part in agenda.parts:
        folder = out / part.folder
        stored = stored_plan(folder)
        plan = make_plan(part.settings, VICTIMS, stored)
        refuse_other_plan(folder, stored, plan, f"underfire study '{out}'")
        if part.subject not in speed:
            size = plan.settings.batch_size or 1
            classifier = VICTIMS.classifier(plan.job.classifier, plan.job.options, devices(plan.settings)[1])
            speed[part.subject] = process.seconds_a_pass(classifier, size, plan.job.device, plan.job.threads)
        costs = _missing(plan, Store(folder), {i: agenda.map_passes[part.subject, i] for i in plan.job.interpreters})
        busy = max(1, min(plan.settings.workers, len(costs)))
        found.append(Estimate(part, plan, sum(costs), speed[part.subject] / busy))
    return found


def _refuse_another(agenda: Agenda, out: Path) -> None:
    """A study may add audits to those that its folder holds, and leave none of them out."""
    if not (out / FILE).is_file():
        return
    now = {part.folder for part in agenda.parts}
    gone = [part["folder"] for part in read(out).resolved.get("parts", []) if part["folder"] not in now]
    if gone:
        some = ", ".join(gone[:3]) + (" …" if len(gone) > 3 else "")
        raise UnderfireError(
            f"'{out}' holds a study with {some}, which this one leaves out: give another --out, or go on with "
            f"'underfire study {out}'."
        )


def _missing(plan: Plan, store: Store, map_passes: Mapping[str, float]) -> list[float]:
    """F at most of each unit that is not done."""
    cost = {lane.interpreters: lane.passes for lane in plan.lanes}
    done, scale = store.done("records"), store.done("scale")
    costs = [cost[unit.job.interpreters] * len(unit.photos) for unit in plan.units() if unit.name not in done]
    for unit in plan.scale_units():
        if unit.name not in scale:  # the clean map, and that of the JPEG
            costs.append((1 + 2 * sum(map_passes[i] for i in unit.job.interpreters)) * len(unit.photos))
    return costs


def run(agenda: Agenda, planned: Sequence[Estimate], out: Path, watcher: Watcher) -> dict[str, str]:
    """Run what is missing of a study, and nothing twice.

    Returns:
        The audits that could not be run to their end, by folder, and why; the others have gone on.
    """
    log = _Log(agenda, planned, out)
    log.write()
    tally = _Tally(watcher)
    for n, one in enumerate(planned, 1):
        folder = out / one.part.folder
        watcher.part(n, len(planned) + 1, one.part.folder)
        with log.work(one.part.folder, tally):
            audit_run.run(one.part.settings, folder, tally)
            if tally.worked or not (folder / "report.html").is_file():
                write_report(folder)
    watcher.part(len(planned) + 1, len(planned) + 1, "transfer")
    for crossing in crossings([one for one in planned if one.part.folder not in log.failed], out):
        judge = crossing.judge.plan.settings.classifier
        with log.work(f"{crossing.made.part.folder} judged by {crossing.name} on {judge}", tally):
            crossing.run(tally)
    return log.failed


class _Tally:
    """Passes on what an audit tells, and knows whether anything was done."""

    def __init__(self, watcher: Watcher) -> None:
        self.begin, self.note, self._advance = watcher.begin, watcher.note, watcher.advance
        self.worked = False

    def advance(self, outcome: Outcome) -> None:
        """As in an audit."""
        self.worked = True
        self._advance(outcome)


class _Log:
    """Keeps OUT/study.yaml up to date: all that the page must know beside the records."""

    def __init__(self, agenda: Agenda, planned: Sequence[Estimate], out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.agenda, self.planned, self.out = agenda, planned, out
        self.failed: dict[str, str] = {}

    @contextlib.contextmanager
    def work(self, name: str, tally: _Tally) -> Iterator[None]:
        """A step of the study: its failure stops no other one."""
        tally.worked = False
        try:
            yield
        except UnderfireError as e:
            self.failed[name] = str(e)
        finally:
            self.write()

    def write(self) -> None:
        """Whole or not at all."""
        content = self.agenda.study.model_dump(mode="json", exclude_none=True, exclude={"resolved"})
        text = yaml.safe_dump(content | {"resolved": self._resolved()}, sort_keys=False, allow_unicode=True)
        write_whole(self.out / FILE, text.encode())

    def _resolved(self) -> dict[str, Any]:
        return {
            "parts": [
                {
                    "experiment": one.part.experiment,
                    "folder": one.part.folder,
                    "subject": one.part.subject,
                    "interpreter": list(one.part.settings.interpreter),
                    "photos": len(one.plan.photos),
                    "eps": one.part.settings.eps,
                }
                for one in self.planned
            ],
            "left_out": [list(one) for one in self.agenda.left_out],
            "failed": [list(one) for one in self.failed.items()],
            "trained_on": self.agenda.trained_on,
        }
