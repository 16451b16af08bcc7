"""The audits of study.yaml, or of --study NAME.yaml; what is finished is kept in results/study/ and never done again.

    python benchmarks/study.py --list                                      the audits, and how many units are there
    python benchmarks/study.py --forge --processes 14 --device cuda        all units that are missing, the most
                                                                           important first, on one machine
    python benchmarks/study.py --forge efficientnet-lite0/eps1-12 ...      those of these audits
    python benchmarks/study.py --page                                      the page and the tables of what is there
    python benchmarks/study.py                                             what is still missing, and the page without
                                                                           samples and the tables, in docs/results/

Units are those of a plan for the CPU, wherever they are computed: a part is the same part. --forge goes on with the
judgements across audits when all main audits are done; a time limit costs what is not finished, nothing else.
--shared says where data/ and models/ are, --kept where parts go to.

study.yaml is of ImageNet photos, study-128px.yaml of a network that stands in for such ones: two pages, since their
cells are never set beside each other.

Records are kept and pictures are not, since they are of photos that are not ours. A main audit's pictures are what
others judge, so its records count only together with these judgements.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
import yaml

from underfire.audit.desk import do_unit
from underfire.audit.folder import write_yardsticks
from underfire.cli.show_study import show_study
from underfire.core import JudgeUnit, Outcome, Unit, Workplace
from underfire.executors.local import Local
from underfire.store import STAGES, Store, encode
from underfire.study.agenda import Agenda, make_agenda
from underfire.study.crossing import crossings
from underfire.study.log import StudyLog
from underfire.study.page import render
from underfire.study.plan import Study
from underfire.study.planned import PlannedAudit, plan_audits
from underfire.study.results import load

from study_tables import write_tables  # isort: skip

HERE = Path(__file__).parent
KEPT = HERE / "results/study"
PAGES = HERE.parent / "docs/results"
WORK = Path(tempfile.gettempdir()) / "underfire-benchmark-study"
YARDSTICKS = HERE / "yardsticks"
"""CLASSIFIER.INTERPRETER.json of the networks that have no packaged one: yardsticks.sh makes them."""
ORDER = ("main", "control", "random", "sanity", "budget", "bends", "trained", "rerun")
"""Experiments, the most important first."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="an audit's; default: the whole study")
    parser.add_argument("--study", default="study", help="study (default) or study-128px")
    parser.add_argument("--list", action="store_true", help="show what is there")
    parser.add_argument("--page", action="store_true", help="write the page of what is there, and compute nothing")
    parser.add_argument("--forge", action="store_true", help="do units, and write no page")
    parser.add_argument("--processes", type=int, default=1, help="of --forge")
    parser.add_argument("--device", default="cpu", help="of --forge")
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/ and models/")
    parser.add_argument("--yardsticks", type=Path, default=YARDSTICKS, help="folder of the networks' yardsticks")
    parser.add_argument("--kept", type=Path, default=KEPT, help="folder of the parts")
    given = parser.parse_args()
    plan = (HERE / f"{given.study}.yaml").read_text(encoding="utf-8").replace("../shared", str(given.shared))
    study = Study.parse(with_yardsticks(yaml.safe_load(plan), given.yardsticks) | {"device": "cpu"})
    agenda = make_agenda(study)
    if given.folders:
        unknown = set(given.folders) - {audit.folder for audit in agenda.audits}
        if unknown:
            parser.error(f"no audits of the study: {', '.join(sorted(unknown))}")
        chosen = tuple(audit for audit in agenda.audits if audit.folder in given.folders)
        agenda = dataclasses.replace(agenda, audits=chosen)
    planned = plan_audits(agenda, WORK)
    for one in planned:
        restore(one, given.kept)
    leave_out_foreign(planned)
    if given.list:
        show(planned, given.kept)
    elif given.page:
        page(agenda, planned, given.study)
    elif given.forge:
        forge(planned, given.kept, given.processes, given.device)
    else:
        show_study(study, WORK, samples=0)
        write_page(given.study)
        for one in planned:
            keep(one.audit.folder, given.kept)


def with_yardsticks(plan: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Name the yardsticks that are there, each in its classifier's part of a plan."""
    for subject in plan["classifiers"]:
        found = sorted(map(str, folder.glob(f"{subject['classifier']}.*.json")))
        if found:
            subject["yardstick"] = found
    return plan


# -- many processes, units of all audits together ----------------------------------------------------------------------


def forge(planned: Sequence[PlannedAudit], kept: Path, processes: int, device: str) -> None:
    """Do what is missing of the audits, then of the judgements across them."""
    with contextlib.ExitStack() as stack:
        begin(planned, stack)
        executor = stack.enter_context(contextlib.closing(Local(Workplace(processes, 1, device))))
        units = list(missing(planned))
        folders = {unit.name: folder for unit, folder in units}
        work = functools.partial(do_on, folders, device)  # the same workers go on with the judgements
        do([unit for unit, _ in units], executor, work, kept)
        ready = [one for one in planned if not list(missing([one]))]
        do([unit for crossing in crossings(ready, WORK) for unit in crossing.missing()], executor, work, kept)


def begin(planned: Sequence[PlannedAudit], stack: contextlib.ExitStack) -> None:
    """Open the audits' folders, with their plans in them."""
    for one in planned:
        store = stack.enter_context(Store(WORK / one.audit.folder).open())
        if not (WORK / one.audit.folder / "plan.yaml").exists():
            write_yardsticks(store, one.plan)
            store.write("plan.yaml", one.plan.dump().encode())


def page(agenda: Agenda, planned: Sequence[PlannedAudit], name: str) -> None:
    """Write the page and the tables of what is there; the page says what is not finished."""
    with contextlib.ExitStack() as stack:
        begin(planned, stack)
    StudyLog(agenda, planned, WORK)
    write_page(name)


def write_page(name: str) -> None:
    """Write the page, without links to folders that are not beside it, and the tables."""
    (PAGES / f"{name}.html").write_text(render(load(WORK), samples=0), encoding="utf-8")
    write_tables(WORK, PAGES / "README.md", name)


def missing(planned: Sequence[PlannedAudit]) -> Iterator[tuple[Unit, str]]:
    """Yield the units that are not done, with their folder: by importance, then the costly ones first."""
    cost = {one.audit.folder: {lane.interpreters: lane.passes for lane in one.plan.lanes} for one in planned}

    def order(one: PlannedAudit, unit: Unit) -> tuple[int, float]:
        passes = cost[one.audit.folder].get(unit.job.interpreters, 0.0)
        return ORDER.index(one.audit.experiment), -passes * len(unit.photos)

    units = [
        (order(one, unit), i, unit, one.audit.folder)
        for i, one in enumerate(planned)
        for unit in one.plan.all_units()
        if unit.name not in Store(WORK / one.audit.folder).done(unit.stage)
    ]
    for _, _, unit, folder in sorted(units, key=lambda found: found[:2]):
        yield unit, folder


def do(units: Sequence[Unit], executor: Local, work: functools.partial[Outcome], kept: Path) -> None:
    """Do units, and keep each part as soon as it is written."""
    start = time.monotonic()
    for n, outcome in enumerate(executor.map(work, iter(units)), 1):
        folder = folder_of(outcome.unit, work.args[0])
        keep(folder, kept)
        took = f"{time.monotonic() - start:6.0f} s {n:4} of {len(units)}"
        print(f"{took} {folder} {outcome.unit.name} {outcome.seconds:.0f} s {outcome.error or ''}", flush=True)


def do_on(folders: Mapping[str, str], device: str, unit: Unit) -> Outcome:
    """Do a unit in a worker, on a device that its plan does not name; its name stays what it is."""
    there = dataclasses.replace(unit, job=dataclasses.replace(unit.job, device=device))
    return dataclasses.replace(do_unit(Store(WORK / folder_of(unit, folders)), there), unit=unit)


def folder_of(unit: Unit, folders: Mapping[str, str]) -> str:
    """Find the audit that a unit belongs to: pictures are judged where they lie."""
    return str(Path(unit.job.source).relative_to(WORK)) if isinstance(unit, JudgeUnit) else folders[unit.name]


# -- parts -------------------------------------------------------------------------------------------------------------


def keep(folder: str, kept: Path) -> None:
    """Copy the finished parts of an audit to the results, without the name of the machine that made them."""
    for stage in STAGES:
        for path in sorted((WORK / folder / stage).glob("*.parquet")):
            target = kept / folder / stage / path.name
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                table = pq.read_table(path)
                meta = {k: v for k, v in table.schema.metadata.items() if k not in (b"host", b"underfire.seal")}
                target.write_bytes(encode(table.replace_schema_metadata(meta)))


def restore(one: PlannedAudit, kept_in: Path) -> None:
    """Put kept parts of a plan where the study looks for them; those of an older plan stay where they are."""
    kept, there = kept_in / one.audit.folder, WORK / one.audit.folder
    wanted = {unit.name for unit in one.plan.all_units()} | Store(kept).done("transfer")
    for stage in STAGES:
        for unit in sorted(Store(kept).done(stage) & wanted - Store(there).done(stage)):
            (there / stage).mkdir(parents=True, exist_ok=True)
            shutil.copy(kept / stage / f"{unit}.parquet", there / stage)


def leave_out_foreign(planned: Sequence[PlannedAudit]) -> None:
    """Leave out judgements of an older plan's pictures, and main audits without their own pictures and judgements."""
    ready = [one for one in planned if not list(missing([one]))]
    all_crossings = list(crossings(ready, WORK))
    for made in (one for one in ready if one.audit.experiment == "main"):
        there = WORK / made.audit.folder
        units = {unit.name for one in all_crossings if one.made is made for unit in one.units()}
        for path in (there / "transfer").glob("*.parquet"):
            if path.stem not in units:
                path.unlink()
        if units - Store(there).done("transfer") and not (there / "images").exists():
            shutil.rmtree(there / "records")


def show(planned: Sequence[PlannedAudit], kept: Path) -> None:
    for one in planned:
        units = {unit.name for unit in one.plan.units()}
        done = len(Store(kept / one.audit.folder).done("records") & units)
        passes = sum(lane.passes for lane in one.plan.lanes) * len(one.plan.photos)
        print(f"{one.audit.folder:34} {done} of {len(units)} units, {passes:,.0f} F in all at most")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
