"""Run a unit in a worker: each kind of unit has its own way, chosen by its type."""

from __future__ import annotations

from functools import singledispatch

from underfire.core import ForgeUnit, JudgeUnit, Record, Scale, ScaleUnit, Unit, UnitResult
from underfire.executors.process import prepare
from underfire.images.photos import Folder
from underfire.trial.goal import load
from underfire.trial.rejudge import rejudge
from underfire.trial.system import System
from underfire.trial.unit import Trial
from underfire.trial.yardstick import measure_scale


@singledispatch
def run_unit(unit: Unit) -> UnitResult:
    """Do what a unit asks for.

    Raises:
        UnderfireError: a mistake of the user's that other units would meet too.
    """
    raise TypeError(f"{type(unit).__name__} is no kind of unit.")


@run_unit.register
def _(unit: ScaleUnit) -> UnitResult:
    system, folder = _ready(unit), Folder(unit.job.source)
    rows: list[Scale] = []
    for first in range(0, len(unit.photos), unit.batch):
        photos = unit.photos[first : first + unit.batch]
        rows += measure_scale(system, photos, *load(folder, photos, system.classifier))
    return UnitResult(rows, {})


@run_unit.register
def _(unit: ForgeUnit) -> UnitResult:
    system, folder = _ready(unit), Folder(unit.job.source)
    rows: list[Record] = []
    files: dict[str, bytes] = {}
    for first in range(0, len(unit.photos), unit.batch):
        photos = unit.photos[first : first + unit.batch]
        levels, errors = load(folder, photos, system.classifier)
        wanted = unit.references[first : first + unit.batch]
        found, _ = load(folder, wanted, system.classifier)
        partners = {i: (wanted[i], pixels) for i, pixels in found.items()}
        trial = Trial(system, unit.job, unit.name, photos, levels, errors, partners, first)
        trial.run()
        rows += trial.records
        files |= trial.files
    return UnitResult(rows, files)


@run_unit.register
def _(unit: JudgeUnit) -> UnitResult:
    return rejudge(unit, _ready(unit))


def _ready(unit: Unit) -> System:
    prepare(unit.job.threads)
    return System.of_job(unit.job)
