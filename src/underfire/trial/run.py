"""Run a unit in a worker: build the victim, load the photos batch by batch, and do what this kind of unit asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial, singledispatch

from underfire.core import ForgeUnit, JudgeUnit, Photo, Record, Scale, ScaleUnit, Unit, UnitResult
from underfire.executors.process import prepare
from underfire.images.photos import Folder, planned
from underfire.trial.load import Loaded, load
from underfire.trial.rejudge import rejudge
from underfire.trial.system import System
from underfire.trial.trial import Trial
from underfire.trial.yardstick import measure_scale


@singledispatch
def run_unit(unit: Unit) -> UnitResult:
    """Do a unit's work in this process.

    Raises:
        UnderfireError: a mistake of the user's that other units would meet too.
    """
    raise TypeError(f"{type(unit).__name__} is no kind of unit.")


@run_unit.register
def _(unit: ScaleUnit) -> UnitResult:
    system = _ready(unit)
    rows: list[Scale] = []
    for loaded in _loaded(unit, system, unit.photos):
        rows += measure_scale(system, [loaded], unit.job.seed)
    return UnitResult(rows, {})


@run_unit.register
def _(unit: ForgeUnit) -> UnitResult:
    system = _ready(unit)
    rows: list[Record] = []
    files: dict[str, bytes] = {}
    references = _loaded(unit, system, unit.references)
    for loaded in _loaded(unit, system, unit.photos):
        trial = Trial(system, unit.job, unit.name, loaded, next(references, None))
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


def _loaded(unit: ScaleUnit | ForgeUnit, system: System, photos: Sequence[Photo]) -> Iterator[Loaded]:
    """Load some photos, so many at a time as share a batch."""
    limits = unit.job.limits
    content, policy = partial(planned, Folder(unit.job.source, limits)), system.classifier.preprocess
    save_as = unit.job.save_as if unit.job.at == "file" else None
    if isinstance(unit, ScaleUnit) and save_as == "png":  # which changes nothing, and no file is forged
        save_as = None
    for first in range(0, len(photos), unit.batch):
        yield load(photos[first : first + unit.batch], content, system.door, policy, first, limits, save_as)
