"""The system under attack inside a worker: the classifier and its interpreters, built once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from underfire.core import Classifier, Defense, Interpreter, Job
from underfire.registry import VICTIMS, Victims


@dataclass
class System:
    """The classifier and the interpreters of one audit, built.

    Args:
        classifier: what is attacked.
        interpreters: name -> who explains it.
        device: what it runs on.
        alarm: what the defender deploys beside it, if anything.
    """

    classifier: Classifier
    interpreters: Mapping[str, Interpreter]
    device: str = "cpu"
    alarm: Defense | None = None

    @classmethod
    def of_job(cls, job: Job, victims: Victims = VICTIMS) -> System:
        """What a job names; built once a process."""
        classifier = victims.classifier(job.classifier, job.options, job.device)
        built = {
            name: victims.interpreter(classifier, name, job.interpreter_options.get(name, {}))
            for name in job.interpreters
        }
        alarm = victims.alarm(classifier, job.defense_file) if job.defense_file else None
        return cls(classifier, built, job.device, alarm)
