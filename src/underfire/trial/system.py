"""The system under attack inside a worker: the classifier and its interpreters, built once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from underfire.core import Classifier, Defense, Interpreter, Job
from underfire.core.door import Door
from underfire.core.watch import Watcher
from underfire.registry import VICTIMS, Victims, door_of


@dataclass
class System:
    """The classifier and the interpreters of one audit, built.

    Args:
        classifier: what is attacked.
        interpreters: name -> who explains it.
        device: what it runs on.
        alarm: what the defender deploys beside it, if anything.
        entry: the classifier's front door, where it is known already.
        watcher: who watches the searches against it.
    """

    classifier: Classifier
    interpreters: Mapping[str, Interpreter]
    device: str = "cpu"
    alarm: Defense | None = None
    entry: Door | None = None
    watcher: Watcher | None = None

    @cached_property
    def door(self) -> Door:
        """The classifier's front door."""
        return self.entry or door_of(self.classifier)

    @classmethod
    def of_job(cls, job: Job, victims: Victims = VICTIMS) -> System:
        """What a job names; built once a process."""
        classifier = victims.classifier(job.classifier, job.options, job.device)
        built = {
            name: victims.interpreter(classifier, name, job.interpreter_options.get(name, {}))
            for name in job.interpreters
        }
        alarm = victims.alarm(classifier, job.defense_file) if job.defense_file else None
        return cls(classifier, built, job.device, alarm, victims.door(classifier))
