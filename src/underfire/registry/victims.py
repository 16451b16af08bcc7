"""Victims: what is under attack, built once a process for the plan, the study and the worker alike.

A victim is known by its name, its options, its device and when the files among the options were written: another
content under the same name is another victim.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

from underfire.core import Classifier, ClassifierOptions, Defense, Interpreter
from underfire.registry import parts

Key = tuple[Any, ...]


class Victims:
    """A cache of one classifier at a time, with the interpreters and the alarms around it.

    Audits of several interpreters come to one worker in turns and have one classifier; of two classifiers the first
    one's memory is given back.
    """

    def __init__(self) -> None:
        self._key: Key | None = None
        self._classifier: Classifier | None = None
        self._around: dict[Key, Any] = {}

    def classifier(self, name: str, options: ClassifierOptions, device: str) -> Classifier:
        """The classifier of that name on its device; raises as `build_classifier`."""
        key = (name, options, device, _stamps(astuple(options)))
        if self._classifier is None or key != self._key:
            self.clear()
            self._classifier = parts.build_classifier(name, options, device)
            self._key = key
        return self._classifier

    def interpreter(self, classifier: Classifier, name: str, options: Mapping[str, Any]) -> Interpreter:
        """The interpreter of that name around a classifier of this cache; raises as `build_interpreter`."""
        key = ("interpreter", name, json.dumps(dict(options), default=str, sort_keys=True), _stamps(options.values()))
        built: Interpreter = self._found(key, classifier) or self._kept(
            key, classifier, parts.build_interpreter(name, classifier, options)
        )
        return built

    def alarm(self, classifier: Classifier, path: str) -> Defense:
        """The alarm of a file around a classifier of this cache; raises as `build_defense`."""
        key = ("alarm", path, _stamps([path]))
        built: Defense = self._found(key, classifier) or self._kept(
            key, classifier, parts.build_defense(path, classifier)
        )
        return built

    def clear(self) -> None:
        """Give the memory back."""
        self._key = self._classifier = None
        self._around.clear()

    def _found(self, key: Key, classifier: Classifier) -> Any:
        return self._around.get(key) if classifier is self._classifier else None

    def _kept(self, key: Key, classifier: Classifier, built: Any) -> Any:
        if classifier is self._classifier:
            self._around[key] = built
        return built


VICTIMS = Victims()
"""Of this process."""


def _stamps(values: Iterable[object]) -> tuple[int, ...]:
    """When the files among some options were written."""
    files = [Path(value) for value in values if isinstance(value, str) and os.sep in value]
    return tuple(file.stat().st_mtime_ns for file in files if file.is_file())
