"""The driver of a study: its audits, as many at once as there are workers, then the judgements across them.

It goes on as any audit does.

OUT/study.yaml          what was asked for, and the audits that it means (log.py)
OUT/CLASSIFIER/...      one ordinary audit a folder: main-24, bends-8, random-8, eps1-12, ...
OUT/study.html          the page (page.py)
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from underfire.audit import run as audit_run
from underfire.audit import transfer
from underfire.core import Executor, Listener, Outcome
from underfire.report.page import write_report
from underfire.store import Store
from underfire.study.agenda import make_agenda
from underfire.study.crossing import crossings, missing_judgements
from underfire.study.explanations_page import write_page
from underfire.study.listener import QuietStudy, StudyListener
from underfire.study.log import StudyLog
from underfire.study.plan import Study, default_out
from underfire.study.planned import PlannedAudit, plan_audits
from underfire.study.results import Row
from underfire.study.side import Crew, Step, Work


@dataclass(frozen=True)
class StudyRun:
    """What came of a study.

    Args:
        out: its folder.
        page: its page; None where no judgement has a result.
        stopped: steps that could not be run to their end, and why; the others have gone on.
        errors: rows of the judgements without a result.
        good: number of the judgements with a result.
    """

    out: Path
    page: Path | None
    stopped: Mapping[str, str]
    errors: Sequence[Row]
    good: int

    @property
    def failed(self) -> int:
        """Number of judgements without a result and of steps that were stopped."""
        return len(self.errors) + len(self.stopped)


def run_study(
    study: Study, out: Path | None = None, listener: StudyListener | None = None, samples: int = 2
) -> StudyRun:
    """Run what is missing of a study, nothing twice, and write its page.

        underfire.study.run.run_study(Study(classifiers=(Subject(settings=Settings(images="photos")),)))

    Args:
        study: what is asked for.
        out: its folder; by default one that is named after what is asked for.
        listener: hears what is missing before anything is run, and then how the study goes on.
        samples: photos shown for each classifier.

    Raises:
        UnderfireError: a mistake of a plan, or ``out`` holds another study or another plan's results.
    """
    listener, out = listener or QuietStudy(), out or default_out(study)
    agenda = make_agenda(study)
    for classifier, interpreter, why in agenda.left_out:
        listener.note(f"Left out: {interpreter} on {classifier}. {why}")
    planned = plan_audits(agenda, out)
    listener.planned(planned, missing_judgements(agenda, planned, out))
    log = StudyLog(agenda, planned, out)
    with contextlib.closing(Crew(study.workers)) as crew:
        _Driver(planned, log, listener, crew).run()
    stages = ("records", transfer.STAGE)
    rows = [row for one in planned for stage in stages for row in Store(out / one.audit.folder).rows(stage)]
    errors = tuple(row for row in rows if row["error"] is not None)
    good = len(rows) - len(errors)
    return StudyRun(out, write_page(out, samples) if good else None, log.stopped, errors, good)


class _Driver:
    """Does the steps of a study, and tells the listener of each."""

    def __init__(self, planned: Sequence[PlannedAudit], log: StudyLog, listener: StudyListener, crew: Crew) -> None:
        self.planned, self.log, self.listener, self.crew = planned, log, listener, crew
        self.started, self.steps = 0, len(planned)

    def run(self) -> None:
        """Do the audits, side by side each classifier's longest first; what is across the main ones comes after."""
        order = self.planned
        if self.crew.workers > 1:
            order = sorted(order, key=lambda one: (one.audit.subject, -one.passes))
        audits = {one.audit.folder: Step(self._audit(one)) for one in order}
        mains = [one.audit.folder for one in self.planned if one.audit.experiment == "main"]
        after = [audits[folder] for folder in mains]
        across = [Step(self._across(folder), after) for folder in mains]
        self.steps += len(mains)
        self.crew.do([*across, *audits.values()])

    def _audit(self, one: PlannedAudit) -> Work:
        def work(executor: Executor | None) -> None:
            folder = self.log.out / one.audit.folder
            with self.log.step(one.audit.folder), self._heard(one.audit.folder) as listener:
                relay = _Relay(listener)
                audit_run.run(one.audit.settings, folder, relay, one.plan, executor)
                if relay.worked or not (folder / "report.html").is_file():
                    write_report(folder)

        return work

    def _across(self, folder: str) -> Work:
        """Judge what one audit has made by all others: they write into the same folder, and so one after the other."""

        def work(executor: Executor | None) -> None:
            good = [one for one in self.planned if one.audit.folder not in self.log.stopped]
            with self._heard(f"{folder}, judged by others") as listener:
                for crossing in crossings(good, self.log.out):
                    if crossing.made.audit.folder == folder:
                        with self.log.step(str(crossing)):
                            crossing.run(listener, executor)

        return work

    def _heard(self, name: str) -> contextlib.AbstractContextManager[Listener]:
        self.started += 1
        return self.listener.step(self.started, self.steps, name)


class _Relay:
    """Passes on what an audit tells, and remembers whether any unit was done."""

    def __init__(self, listener: Listener) -> None:
        self.begin, self.done, self.note, self._advance = listener.begin, listener.done, listener.note, listener.advance
        self.worked = False

    def advance(self, outcome: Outcome) -> None:
        """Pass on a unit that is done."""
        self.worked = True
        self._advance(outcome)
