"""Parts by name: a maker for everything that can be added to.

A part registers itself with a decorator where it is defined; the modules of underfire's folders are found by looking
into the folders, other packages' parts by their entry points (groups ``underfire.interpreters`` and so on).
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from underfire.core import Classifier, ClassifierOptions, Defense, Interpreter, UnderfireError, unknown
from underfire.registry.values import check_call

KINDS = ("classifiers", "interpreters", "attacks", "defenses", "executors")
FOLDERS = {"interpreters": ("interpreters", "defenses")}
"""Where our own parts of a kind lie, if not in its folder alone: a defense may show a map of its own."""
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
    made = maker("interpreters", name)
    check_call(name, made, options)
    try:
        built: Interpreter = made(classifier, **options)
    except TypeError as e:
        raise UnderfireError(f"The settings {dict(options)} do not suit interpreter '{name}': {e}.") from e
    return built


def build_defense(path: str, classifier: Classifier) -> Defense:
    """The alarm of a file that `underfire defend calibrate` made, for the classifier that it was calibrated for.

    Raises:
        UnderfireError: no such file, or one of another classifier.
    """
    built: Defense = maker("defenses", _kind_of_alarm(path))(classifier, path)
    return built


def _kind_of_alarm(path: str) -> str:
    """The key ``defense`` of an alarm's file; what cannot be read goes to the ensemble, which says what is wrong."""
    try:
        content = json.loads(Path(path).expanduser().read_bytes())
    except (OSError, ValueError):
        return "ensemble"
    return str(content.get("defense", "ensemble")) if isinstance(content, dict) else "ensemble"


def _import_folder(kind: str) -> None:
    if kind in _imported:
        return
    for folder in FOLDERS.get(kind, (kind,)):
        package = importlib.import_module(f"underfire.{folder}")
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"underfire.{folder}.{module.name}")
    _imported.add(kind)
