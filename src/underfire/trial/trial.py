"""A trial: one batch of photos is forged and judged.

    photos -> batch (predictions, wanted classes and maps) -> forge -> 8-bit PNG -> read back -> judge -> Records

Pictures are judged as they are read back, with the real interpreter in float32.
"""

from __future__ import annotations

import time
from dataclasses import replace

from underfire.core import Cell, Job, Record
from underfire.trial import columns, files, rows
from underfire.trial.alarms import alarms
from underfire.trial.forge import forge
from underfire.trial.forged import Forged
from underfire.trial.goal import look
from underfire.trial.judge import Judged, judge
from underfire.trial.load import Loaded
from underfire.trial.system import System


class Trial:
    """Forges and judges a batch.

    Args:
        system: under attack.
        job: what is done to it.
        unit: the name of the batch's unit.
        loaded: the photos.
        references: the photos whose maps are wanted, at the places of those that want them; None where none are.

    Attributes:
        records: one for each attack, judge and photo.
        files: pictures and maps, by name in the unit's folder.
        seen: the images that have a result, for each attack and judge.
    """

    def __init__(self, system: System, job: Job, unit: str, loaded: Loaded, references: Loaded | None = None) -> None:
        self.system, self.job, self.unit, self.loaded = system, job, unit, loaded
        clean = look(system, job, loaded, references)
        self.clean = replace(clean, alarms=alarms(system, clean.levels))
        self.files = files.clean_files(job, self.clean)
        self.records: list[Record] = []
        self.seen: list[tuple[Forged, Judged]] = []

    def run(self) -> None:
        """Make every attack of the job, and show what it made to every interpreter that it concerns."""
        for cell in self.job.cells:
            start = time.perf_counter()
            forged = forge(self.system, self.job, cell, self.clean)
            forged = replace(forged, alarms=alarms(self.system, forged.levels))
            self.files |= files.forged_files(cell, forged)
            seconds = (time.perf_counter() - start) / max(1, len(forged.clean))
            for name in self.system.interpreters if cell.against is None else [cell.against]:
                self._judge(cell, name, forged, seconds)

    def _judge(self, cell: Cell, name: str, forged: Forged, forge_seconds: float) -> None:
        start = time.perf_counter()
        judged = judge(self.system, name, forged.clean, forged.levels)
        self.files |= files.judged_files(cell, name, judged)
        seconds = forge_seconds + (time.perf_counter() - start) / max(1, len(judged.clean))
        who = columns.Judge(self.job, self.unit, self.system.classifier.name, name, self.system.door.name)
        self.records += rows.records(who, cell, self.loaded, forged, judged, seconds)
        self.seen.append((forged.without(judged.clean.errors), judged))
