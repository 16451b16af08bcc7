"""The cache of victims: what is under attack is built once in a process, for the plan, the study and the worker alike.

The key of a victim is its name, its options, its device and the times at which its files were written: those among the
options, the one in its name, and those beside that it was read from. A file with new content makes another victim.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any, TypeVar

from underfire.core import Classifier, ClassifierOptions, Defense, Interpreter
from underfire.core.door import Door
from underfire.core.naming import file_of
from underfire.registry import parts

Key = tuple[Any, ...]
T = TypeVar("T")


class Victims:
    """A cache of one classifier at a time, with the interpreters and the alarms around it.

    A worker gets units of several interpreters in turn, all around one classifier. When another classifier comes, the
    memory of the first one is given back.
    """

    def __init__(self) -> None:
        self._key: Key | None = None
        self._classifier: Classifier | None = None
        self._around: dict[Key, Any] = {}

    def classifier(self, name: str, options: ClassifierOptions, device: str) -> Classifier:
        """Find or build a classifier; arguments and errors as in `build_classifier`."""
        key = (name, options, device, _stamps(astuple(options)), _written(file_of(name)))
        if self._classifier is None or (*key, _beside(self._classifier)) != self._key:
            self.clear()
            self._classifier = parts.build_classifier(name, options, device)
            self._key = (*key, _beside(self._classifier))
        return self._classifier

    def interpreter(self, classifier: Classifier, name: str, options: Mapping[str, Any]) -> Interpreter:
        """Find or build an interpreter around a classifier of this cache; errors as in `build_interpreter`."""
        key = ("interpreter", name, json.dumps(dict(options), default=str, sort_keys=True), _stamps(options.values()))
        built: Interpreter = self._found(key, classifier) or self._kept(
            key, classifier, parts.build_interpreter(name, classifier, options)
        )
        return built

    def alarm(self, classifier: Classifier, path: str) -> Defense:
        """Find or build the alarm of a file around a classifier of this cache; errors as in `build_defense`."""
        key = ("alarm", path, _stamps([path]))
        built: Defense = self._found(key, classifier) or self._kept(
            key, classifier, parts.build_defense(path, classifier)
        )
        return built

    def door(self, classifier: Classifier) -> Door:
        """Find or build the front door of a classifier of this cache; it remembers the sizes of photos."""
        built: Door = self._found(("door",), classifier) or self._kept(("door",), classifier, parts.door_of(classifier))
        return built

    def about(self, classifier: Classifier, what: str, options: Mapping[str, Any], find: Callable[[], T]) -> T:
        """Find what is known about a classifier of this cache, or find it out: it stays so while its files do.

        Args:
            classifier: the classifier.
            what: what is to be known.
            options: what it depends on beside the classifier; files in it as paths.
            find: finds it out, or raises.
        """
        key = (what, json.dumps(options, default=str, sort_keys=True), _stamps(_leaves(options)))
        found = self._found(key, classifier)
        known: tuple[T] = found or self._kept(key, classifier, (find(),))
        return known[0]

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
"""The cache of this process."""


def _stamps(values: Iterable[object]) -> tuple[int, ...]:
    """Return the times at which the files among some options were written, ns since 1970."""
    files = [Path(value) for value in values if isinstance(value, str) and os.sep in value]
    return tuple(file.stat().st_mtime_ns for file in files if file.is_file())


def _leaves(options: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the values of options of options."""
    for value in options.values():
        if isinstance(value, Mapping):
            yield from _leaves(value)
        else:
            yield value


def _beside(classifier: Classifier) -> tuple[int, ...]:
    """Return the times at which the files were written that only a built classifier knows of."""
    return _stamps(getattr(classifier, "beside", ()))


def _written(file: Path | None) -> tuple[int, ...]:
    """Return the times at which a file, or the files directly in a folder, were written."""
    if file is None:
        return ()
    return tuple(
        one.stat().st_mtime_ns for one in (sorted(file.iterdir()) if file.is_dir() else [file]) if one.is_file()
    )
