"""Parts by name: the makers of classifiers, interpreters, attacks, defenses and executors.

A part registers itself with a decorator where it is defined. Our own parts are found in the folders of the package;
those of other packages, by their entry points (groups ``underfire.interpreters`` and so on).
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from underfire.core import Classifier, ClassifierOptions, Defense, Interpreter, UnderfireError, unknown
from underfire.core.door import Door
from underfire.core.protocols import kind_of
from underfire.registry.values import check_call


@runtime_checkable
class Library(Protocol):
    """What makes the makers of a whole library: `captum:Saliency`."""

    def named(self, variant: str) -> Any:
        """Give the maker that is called ``variant`` there."""


KINDS = ("classifiers", "interpreters", "attacks", "defenses", "executors", "doors")
"""Kinds of parts."""
DEFAULT_DOOR = "pillow"
"""The door of a classifier that names none."""
FOLDERS = {"interpreters": ("interpreters", "defenses")}
"""Folders of our own parts of a kind, where it is not one folder of that name: a defense can have its own map."""
MAKERS: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
"""Kind -> name -> maker, of the parts that are imported."""
EXAMPLES = {
    "timm": "timm:resnet18.a1_in1k",
    "torchvision": "torchvision:convnext_tiny",
    "hf": "hf:my-folder",
    "onnx": "onnx:network.onnx",
    "script": "script:network.pt",
    "clip": "clip:ViT-B-32",
}
"""Classifiers whose name goes on after a colon."""
_imported: set[str] = set()
M = TypeVar("M")


def register(kind: str, name: str) -> Callable[[M], M]:
    """Register a class or a function as the maker of ``name`` (a decorator).

    Example:
        ``@register("interpreters", "cam")``

    Args:
        kind: one of `KINDS`.
        name: what users write.
    """

    def add(maker: M) -> M:
        MAKERS[kind][name] = maker
        return maker

    return add


def names(kind: str) -> list[str]:
    """List all names of a kind, ours and other packages', sorted."""
    _import_folder(kind)
    return sorted({*MAKERS[kind], *(point.name for point in entry_points(group=f"underfire.{kind}"))})


def maker(kind: str, name: str) -> Any:
    """Find the maker that is registered under a name.

    Args:
        kind: one of `KINDS`.
        name: as in ``underfire list``.

    Raises:
        UnderfireError: an unknown name; the error gives the nearest known one.
    """
    if name not in MAKERS[kind]:
        _import_file(kind, name)
    if name in MAKERS[kind]:
        return MAKERS[kind][name]
    _import_folder(kind)
    if name in MAKERS[kind]:
        return MAKERS[kind][name]
    for point in entry_points(group=f"underfire.{kind}", name=name):
        return point.load()
    family, colon, variant = name.partition(":")
    if colon and isinstance(of := MAKERS[kind].get(family), Library):
        return of.named(variant)
    raise unknown(kind.removesuffix("s"), name, names(kind))


def of_library(kind: str, name: str) -> bool:
    """Tell whether a name stands for a whole library, as `captum` does, and is no part by itself."""
    return isinstance(maker(kind, name), Library)


def build_classifier(name: str, options: ClassifierOptions, device: str) -> Classifier:
    """Build a classifier by name, on its device.

    Args:
        name: as in ``underfire list``, with a variant after a colon where it takes one.
        options: the user's own weights and input policy.
        device: 'cpu', 'cuda' or 'mps'.

    Raises:
        UnderfireError: an unknown name, or weights that do not fit.
    """
    kind, _, variant = name.partition(":")
    if kind in EXAMPLES and not variant:
        raise UnderfireError(f"'{kind}' needs a name after a colon, such as '{EXAMPLES[kind]}'.")
    classifier: Any = maker("classifiers", kind)(variant, options)
    classifier.to(device)
    if options.door is not None:
        classifier.door = build_door(options.door, classifier)
    built: Classifier = classifier
    _refuse_unheard(built, name, options)
    return built


def build_door(word: str, classifier: Classifier) -> Door:
    """Build a front door for a classifier.

    Args:
        word: the name of a door, with a variant after a colon where it takes one, or 'module:function'.
        classifier: whose sizes the door has.

    Raises:
        UnderfireError: an unknown name, or a door that does not fit.
    """
    kind, colon, variant = word.partition(":")
    if kind not in names("doors") and colon and variant:
        kind, variant = "function", word
    built: Door = maker("doors", kind)(variant, classifier.preprocess)
    return built


def door_of(classifier: Classifier) -> Door:
    """Find the front door of a classifier: its own, or the default one, which is kept with it."""
    own: Door | None = getattr(classifier, "door", None)
    return build_door(DEFAULT_DOOR, classifier) if own is None else own


def _refuse_unheard(classifier: Classifier, name: str, options: ClassifierOptions) -> None:
    """Raise UnderfireError for a head or channels that a maker has passed over."""
    for flag, given, has in (
        ("--head", options.head, kind_of(classifier)),
        ("--channels", options.channels, classifier.preprocess.channels),
    ):
        if given is not None and given != has:
            raise UnderfireError(f"{flag} {given}: '{name}' has {has}; leave it out.")


def build_interpreter(name: str, classifier: Classifier, options: Mapping[str, Any]) -> Interpreter:
    """Build an interpreter by name, for a classifier.

    Args:
        name: as in ``underfire list``.
        classifier: the classifier that it explains.
        options: keyword arguments of its maker.

    Raises:
        UnderfireError: an unknown name, settings that it does not have, or a classifier that it cannot explain.
    """
    made = maker("interpreters", name)
    check_call(name, made, options)
    try:
        built: Interpreter = made(classifier, **options)
    except TypeError as e:
        raise UnderfireError(f"The settings {dict(options)} do not suit interpreter '{name}': {e}.") from e
    return built


def build_defense(path: str, classifier: Classifier) -> Defense:
    """Build the alarm of a file from `underfire defend calibrate`, for the classifier that it was calibrated for.

    Raises:
        UnderfireError: there is no such file, or it is for another classifier.
    """
    built: Defense = importlib.import_module("underfire.defenses.alarm").Alarm(classifier, path)
    return built


def compares(path: str) -> bool:
    """Tell whether the alarm of a file compares interpreters; so does a bad file, whose reader says what is bad."""
    try:
        content = json.loads(Path(path).expanduser().read_bytes())
    except (OSError, ValueError):
        return True
    return bool(content.get("members", True)) if isinstance(content, dict) else True


def _import_file(kind: str, name: str) -> None:
    """Import the one file that registers a name, where there is one: its neighbours take seconds."""
    said = f'@register("{kind}", "{name}")'
    for folder in FOLDERS.get(kind, (kind,)) if kind not in _imported else ():
        root = Path(__file__).parent.parent / folder
        for file in sorted(root.rglob("*.py")):
            if said in file.read_text("utf-8"):
                module = file.relative_to(root.parent).with_suffix("").parts
                importlib.import_module(".".join(("underfire", *module)).removesuffix(".__init__"))
                return


def _import_folder(kind: str) -> None:
    if kind in _imported:
        return
    for folder in FOLDERS.get(kind, (kind,)):
        package = importlib.import_module(f"underfire.{folder}")
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"underfire.{folder}.{module.name}")
    _imported.add(kind)
