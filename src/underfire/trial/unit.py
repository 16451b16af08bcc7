"""A unit in a worker: build the victim, load the photos batch by batch, and do what the unit's stage asks for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from underfire.core import Outcome, Unit
from underfire.executors.process import prepare
from underfire.images.photos import Folder, planned
from underfire.trial.load import Loaded, load
from underfire.trial.rejudge import rejudge
from underfire.trial.system import System
from underfire.trial.trial import Trial
from underfire.trial.yardstick import measure_scale


def run_unit(unit: Unit) -> Outcome:
    """Do a unit's work in this process."""
    if unit.stage == "transfer":
        return rejudge(unit)
    start = time.perf_counter()
    prepare(unit.job.threads)
    system = System.of_job(unit.job)
    rows: list[Any] = []
    files: dict[str, bytes] = {}
    for loaded, references in _batches(unit, system):
        if unit.stage == "scale":
            rows += measure_scale(system, loaded)
            continue
        trial = Trial(system, unit.job, unit.name, loaded, references)
        trial.run()
        rows += trial.records
        files |= trial.files
    return Outcome(unit, rows, files, time.perf_counter() - start)


def _batches(unit: Unit, system: System) -> Iterator[tuple[Loaded, Loaded | None]]:
    """The unit's photos, and the photos whose maps are wanted of them, so many at a time as share a batch."""
    content, policy = partial(planned, Folder(unit.job.source)), system.classifier.preprocess
    size = unit.batch or len(unit.photos)
    for first in range(0, len(unit.photos), size):
        loaded = load(unit.photos[first : first + size], content, policy, first)
        wanted = unit.partners[first : first + size]
        yield loaded, load(wanted, content, policy, first) if wanted else None
