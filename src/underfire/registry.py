"""Name -> maker, for everything that can be added to.

A part registers itself with a decorator where it is defined; the modules of underfire's folders are found by looking
into the folders, other packages' parts by their entry points (groups ``underfire.interpreters`` and so on).
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any, TypeVar

from underfire import calibration
from underfire.core import Classifier, ClassifierOptions, Defense, Interpreter, UnderfireError

LISTED = 30
"""Known names that an error spells out."""
KINDS = ("classifiers", "interpreters", "attacks", "defenses", "executors")
_makers: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
_imported: set[str] = set()
M = TypeVar("M")


def register(kind: str, name: str) -> Callable[[M], M]:
    """Register the maker of ``name`` among the ``kind``, such as a class or a function: a decorator."""

    def add(maker: M) -> M:
        _makers[kind][name] = maker
        return maker

    return add


def names(kind: str) -> list[str]:
    """Every name of a kind, ours and third parties', sorted."""
    _import_folder(kind)
    return sorted({*_makers[kind], *(point.name for point in entry_points(group=f"underfire.{kind}"))})


def maker(kind: str, name: str) -> Any:
    """The maker registered under ``name``.

    Raises:
        UnderfireError: for an unknown name, with the nearest known ones.
    """
    _import_folder(kind)
    if name in _makers[kind]:
        return _makers[kind][name]
    for point in entry_points(group=f"underfire.{kind}", name=name):
        return point.load()
    raise unknown(kind.removesuffix("s"), name, names(kind))


def build_classifier(name: str, options: ClassifierOptions, device: str) -> Classifier:
    """The classifier of that name, on its device.

    Args:
        name: as in ``underfire list``, with a variant behind a colon where it takes one.
        options: own weights and input policy.
        device: 'cpu', 'cuda' or 'mps'.

    Raises:
        UnderfireError: for an unknown name, or weights that do not fit.
    """
    kind, _, variant = name.partition(":")
    if kind == "timm" and not variant:
        raise UnderfireError("'timm' needs a network's name behind a colon, such as 'timm:resnet18.a1_in1k'.")
    classifier: Any = maker("classifiers", kind)(variant, options)
    classifier.to(device)
    built: Classifier = classifier
    return built


def build_interpreter(name: str, classifier: Classifier, options: Mapping[str, Any]) -> Interpreter:
    """The interpreter of that name, for a classifier.

    Raises:
        UnderfireError: for an unknown name or settings that it does not have.
    """
    try:
        built: Interpreter = maker("interpreters", name)(classifier, **options)
    except TypeError as e:
        raise UnderfireError(f"The settings {dict(options)} do not suit interpreter '{name}': {e}.") from e
    return built


def build_defense(path: str, classifier: Classifier) -> Defense:
    """The alarm of a file that `underfire defend calibrate` made, for the classifier that it was calibrated for.

    Raises:
        UnderfireError: no such file, or one of another classifier.
    """
    built: Defense = maker("defenses", calibration.read(path).defense)(classifier, path)
    return built


def unknown(what: str, word: str, known: Iterable[str]) -> UnderfireError:
    """The error for a word that is none of the ``known`` ones, naming the nearest."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    listed = ", ".join(known[:LISTED]) + (f" and {len(known) - LISTED} more" if len(known) > LISTED else "")
    return UnderfireError(f"There is no {what} '{word}'.{hint} Known: {listed or 'none'}.")


def _import_folder(kind: str) -> None:
    if kind in _imported:
        return
    package = importlib.import_module(f"underfire.{kind}")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"underfire.{kind}.{module.name}")
    _imported.add(kind)
