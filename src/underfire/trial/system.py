"""The system under attack inside a worker: the process set up, the classifier and its interpreters built once."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from underfire import registry
from underfire.core import Classifier, Defense, Interpreter, Job


@dataclass
class System:
    """The classifier and the interpreters of one audit, built."""

    classifier: Classifier
    interpreters: Mapping[str, Interpreter]
    device: str = "cpu"
    alarm: Defense | None = None

    @classmethod
    def of_job(cls, job: Job) -> System:
        """Built once a process: audits of several lanes come to one worker in turns, and have one classifier."""
        chosen = _identity(job)
        built = {}
        for name in job.interpreters:
            options = job.interpreter_options.get(name, {})
            built[name] = _interpreter(chosen, name, json.dumps(options, default=str), _stamps(options.values()))
        alarm = _alarm(chosen, job.defense_file, _stamps([job.defense_file])) if job.defense_file else None
        return cls(_classifier(*chosen), built, job.device, alarm)


def _identity(job: Job) -> tuple[Any, ...]:
    return job.classifier, job.options, job.device, _stamps((job.options.weights, job.options.classes))


def _stamps(paths: Iterable[object]) -> tuple[int, ...]:
    """When the files among some options were written: another content under the same name is another system."""
    files = [Path(path) for path in paths if isinstance(path, str) and os.sep in path]
    return tuple(file.stat().st_mtime_ns for file in files if file.is_file())


@functools.lru_cache(maxsize=1)
def _classifier(name: str, options: Any, device: str, _stamps: tuple[int, ...]) -> Classifier:
    _alarm.cache_clear()
    _interpreter.cache_clear()  # those of the classifier that was there before would keep it in memory
    return registry.build_classifier(name, options, device)


@functools.cache
def _interpreter(chosen: tuple[Any, ...], name: str, options: str, _stamps: tuple[int, ...]) -> Interpreter:
    return registry.build_interpreter(name, _classifier(*chosen), json.loads(options))


@functools.cache
def _alarm(chosen: tuple[Any, ...], path: str, _stamps: tuple[int, ...]) -> Defense:
    return registry.build_defense(path, _classifier(*chosen))
