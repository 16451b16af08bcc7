"""The audits of study.yaml, a few at a time; what is finished is kept in results/study/ and never done again.

    python benchmarks/study.py --list                          the audits, and how many of their units are there
    python benchmarks/study.py efficientnet-lite0/bends-8 ...  these
    python benchmarks/study.py --judge resnet50/main-12 ...    what these made, judged by all others
    python benchmarks/study.py                                 all that is missing, judgements across audits, and the
                                                               page without samples, in docs/results/

Records are kept and pictures are not, since they are of photos that are not ours. A main audit's pictures are what
others judge, so its records count only together with these judgements.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import torch

from underfire.audit import run
from underfire.cli.show_study import show_study
from underfire.core import Outcome, Quiet
from underfire.store import STAGES, Store, encode
from underfire.study.agenda import make_agenda
from underfire.study.crossing import crossings
from underfire.study.page import render
from underfire.study.plan import read
from underfire.study.planned import PlannedAudit, plan_audits
from underfire.study.results import load

HERE = Path(__file__).parent
KEPT = HERE / "results/study"
PAGE = HERE.parent / "docs/results/study.html"
WORK = Path(tempfile.gettempdir()) / "underfire-benchmark-study"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="an audit's; default: the whole study")
    parser.add_argument("--list", action="store_true", help="show what is there")
    parser.add_argument("--judge", action="store_true", help="judge what the named main audits made")
    parser.add_argument("--workers", type=int, default=1, help="of named audits")
    given = parser.parse_args()
    study = read(HERE / "study.yaml")
    agenda = make_agenda(study)
    unknown = set(given.folders) - {audit.folder for audit in agenda.audits}
    if unknown:
        parser.error(f"no audits of the study: {', '.join(sorted(unknown))}")
    planned = plan_audits(agenda, WORK)
    for one in planned:
        restore(one)
    if given.list:
        show(planned)
    elif given.judge:
        mains = [one for one in planned if one.audit.experiment == "main"]
        if not set(given.folders) <= {one.audit.folder for one in mains} or any(one.passes for one in mains):
            parser.error("--judge takes folders of main audits, once all main audits are done")
        for crossing in crossings(planned, WORK):
            if crossing.made.audit.folder in given.folders:
                crossing.run(Keeping(crossing.made.audit.folder))
    elif given.folders:
        for one in planned:
            if one.audit.folder in given.folders:
                settings = one.audit.settings.model_copy(update={"workers": given.workers})
                run.run(settings, WORK / one.audit.folder, Keeping(one.audit.folder))
    else:
        show_study(study, WORK, samples=0)
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(
            render(load(WORK), samples=0), encoding="utf-8"
        )  # without links to folders that are not beside it
        for one in planned:
            keep(one.audit.folder)


class Keeping(Quiet):
    """Keeps what is finished, unit by unit."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def advance(self, outcome: Outcome) -> None:
        """A unit is done and its part written."""
        keep(self.folder)


def keep(folder: str) -> None:
    """Copy the finished parts of an audit to the results, without the name of the machine that made them."""
    for stage in STAGES:
        for path in sorted((WORK / folder / stage).glob("*.parquet")):
            target = KEPT / folder / stage / path.name
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                table = pq.read_table(path)
                meta = {k: v for k, v in table.schema.metadata.items() if k not in (b"host", b"underfire.seal")}
                target.write_bytes(encode(table.replace_schema_metadata(meta)))


def restore(one: PlannedAudit) -> None:
    """Put kept parts of a plan where the study looks for them; those of an older plan stay where they are."""
    kept, there = KEPT / one.audit.folder, WORK / one.audit.folder
    if one.audit.experiment == "main" and not there.exists() and not Store(kept).done("transfer"):
        return  # without its pictures nothing could be judged
    wanted = {unit.name for unit in one.plan.all_units()} | Store(kept).done("transfer")
    for stage in STAGES:
        for unit in sorted(Store(kept).done(stage) & wanted - Store(there).done(stage)):
            (there / stage).mkdir(parents=True, exist_ok=True)
            shutil.copy(kept / stage / f"{unit}.parquet", there / stage)


def show(planned: list[PlannedAudit]) -> None:
    for one in planned:
        units = {unit.name for unit in one.plan.units()}
        print(
            f"{one.audit.folder:32} {len(Store(KEPT / one.audit.folder).done('records') & units)} of {len(units)} units"
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
