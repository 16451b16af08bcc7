"""The study of explanations in explanations.yaml; what is finished is kept in results/explanations-study/.

    python benchmarks/explanations_study.py --list      what is missing, at most
    python benchmarks/explanations_study.py             do what is missing, then the page in docs/results/
    python benchmarks/explanations_study.py --page      the page of what is there, and compute nothing

It is `underfire study benchmarks/explanations.yaml` with parts that are kept as soon as they are written, so nothing is
ever done again. Records are kept and pictures are not, since they are of photos that are not ours; a main audit's
records count only together with the judgements of its pictures (as in study.py).
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml
from rich.progress import Progress

from underfire.cli.show_study import StepProgress, StudyProgress
from underfire.core import Outcome
from underfire.executors.process import prepare
from underfire.study.agenda import make_agenda
from underfire.study.crossing import MissingJudgements, missing_judgements
from underfire.study.explanations_page import render
from underfire.study.log import StudyLog
from underfire.study.plan import Study
from underfire.study.planned import PlannedAudit, plan_audits
from underfire.study.results import load
from underfire.study.run import run_study

import study as kept  # isort: skip

HERE = Path(__file__).parent
KEPT = HERE / "results/explanations-study"
PAGE = HERE.parent / "docs/results/explanations.html"
kept.WORK = Path(tempfile.gettempdir()) / "underfire-benchmark-explanations"


class Keeping(StudyProgress):
    """Shows how the study goes on, and keeps each part as soon as it is written."""

    def __init__(self) -> None:
        super().__init__()
        self.folders: Sequence[str] = ()

    def planned(self, audits: Sequence[PlannedAudit], across: MissingJudgements) -> None:
        """Print what is missing, and remember where parts come from."""
        super().planned(audits, across)
        self.folders = [one.audit.folder for one in audits]

    def step(self, n: int, of: int, name: str) -> StepProgress:
        """Give a step its bars; it keeps what is new."""
        return KeepingStep(self._bars, f"[{n}/{of}] {name}", self.folders)


class KeepingStep(StepProgress):
    """The bars of one step, which keeps each part of the study."""

    def __init__(self, shared: Progress, name: str, folders: Sequence[str]) -> None:
        super().__init__(shared, name)
        self.folders = folders

    def advance(self, outcome: Outcome) -> None:
        """Keep what is new."""
        super().advance(outcome)
        for folder in self.folders:
            kept.keep(folder, KEPT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="show what is missing")
    parser.add_argument("--page", action="store_true", help="write the page of what is there, and compute nothing")
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/")
    given = parser.parse_args()
    prepare(1)
    plan = (HERE / "explanations.yaml").read_text(encoding="utf-8").replace("../shared", str(given.shared))
    study = Study.parse(yaml.safe_load(plan) | {"device": "cpu"})
    agenda = make_agenda(study)
    planned = plan_audits(agenda, kept.WORK)
    for one in planned:
        kept.restore(one, KEPT)
    if given.list:
        planned = plan_audits(agenda, kept.WORK)  # without what was restored
        Keeping().planned(planned, missing_judgements(agenda, planned, kept.WORK))
        return
    if given.page:
        with contextlib.ExitStack() as stack:
            kept.begin(planned, stack)
        StudyLog(agenda, planned, kept.WORK)
    else:
        with Keeping() as listener:
            run_study(study, kept.WORK, listener, samples=0)
    PAGE.write_text(render(load(kept.WORK), samples=0), encoding="utf-8")  # no links: the folders are not beside it


if __name__ == "__main__":
    main()
