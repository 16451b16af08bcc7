"""The classifiers of the app: built when one is first needed, and kept; the explanations that fit each."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from underfire.core import ClassifierOptions, UnderfireError

if TYPE_CHECKING:
    from underfire.core import Classifier, Interpreter

PACKAGED = ("efficientnet-lite0", "efficientnet-lite2")
"""Classifiers whose weights come with their package."""
DEAR = 100.0
"""F of a map from which on it takes seconds to minutes on a CPU."""


@dataclass(frozen=True)
class Fit:
    """An explanation, and whether it fits a classifier.

    Args:
        name: as in ``underfire list``.
        said: the first sentence of its documentation.
        problem: why it does not fit; '' where it does.
        passes: F of one map.
        attacked: whether it can be attacked; otherwise it only looks on.
    """

    name: str
    said: str
    problem: str = ""
    passes: float = 0.0
    attacked: bool = True

    @property
    def dear(self) -> bool:
        """Whether a map takes long."""
        return self.passes > DEAR


class Networks:
    """The classifiers that the page offers.

    Args:
        own: name of the user's own classifier, from the command line.
        options: its weights and sizes.
        device: where it computes.
    """

    def __init__(self, own: str, options: ClassifierOptions, device: str) -> None:
        self.own, self.options, self.device = own, options, device
        self.names = list(dict.fromkeys([own, *PACKAGED]))
        self._built: dict[str, Any] = {}
        self._fits: dict[str, list[Fit]] = {}
        self._lock = threading.RLock()

    def classifier(self, name: str) -> Classifier:
        """Find or build a classifier.

        Raises:
            UnderfireError: one that the page does not offer, or weights that do not fit.
        """
        if name not in self.names:
            raise UnderfireError(f"'{name}' is not offered here: give it to the app with --classifier.")
        with self._lock:
            if name not in self._built:
                from underfire.plan.device import choose_device
                from underfire.registry import build_classifier

                device = choose_device(self.device)
                self._built[name] = build_classifier(name, self.options_of(name), device)
            found: Classifier = self._built[name]
            return found

    def options_of(self, name: str) -> ClassifierOptions:
        """Give the options that a classifier is built with."""
        return self.options if name == self.own else ClassifierOptions()

    def interpreter(self, name: str, interpreter: str) -> Interpreter:
        """Find or build an explanation of a classifier; errors as in `build_interpreter`."""
        with self._lock:
            key = f"{name} {interpreter}"
            if key not in self._built:
                from underfire.registry import build_interpreter

                self._built[key] = build_interpreter(interpreter, self.classifier(name), {})
            found: Interpreter = self._built[key]
            return found

    def fits(self, name: str) -> list[Fit]:
        """List all explanations, those that fit a classifier first; the page's default, CAM, is the very first."""
        with self._lock:
            if name not in self._fits:
                from underfire import registry

                known = registry.names("interpreters")
                parts = [one for one in known if not registry.of_library("interpreters", one) and one != "ensemble"]
                found = [self._fit(name, one) for one in parts]
                order = ("cam", "grad", "rts", "mask")
                found.sort(key=lambda fit: (bool(fit.problem), *_place(order, fit.name), fit.name))
                self._fits[name] = found
            return self._fits[name]

    def _fit(self, name: str, interpreter: str) -> Fit:
        from underfire import registry

        maker = registry.maker("interpreters", interpreter)
        said = (maker.__doc__ or "").strip().partition("\n")[0]
        attacked = not getattr(maker, "judges_only", False)
        try:
            built = self.interpreter(name, interpreter)
        except UnderfireError as e:
            return Fit(interpreter, said, str(e))
        return Fit(interpreter, said, "", built.map_passes, attacked)

    def classes(self, name: str) -> Mapping[int, str]:
        """Name a classifier's classes by index."""
        return dict(enumerate(self.classifier(name).classes.names))


def _place(order: tuple[str, ...], name: str) -> tuple[int]:
    return (order.index(name) if name in order else len(order),)
