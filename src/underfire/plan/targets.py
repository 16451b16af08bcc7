"""The targets of an attack, from the user's words: a class, and the source of the target maps.

    benign                      the interpreter's map of the clean image for its own class: nothing looks touched
    class:NAME, class:random    its map of the clean image for another class; random: neither source nor target class
    image:PATH, image:random    its map of another photo for the class of that photo
    shape:circle, shape:box     a drawn shape, at a random position for each image
    file:PNG                    a grey picture, resized to the map's size

Every random choice depends on (seed, photo's digest) and on its purpose, never on the batch.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from underfire import core
from underfire.core import Classifier, TargetMap, UnderfireError
from underfire.images import pixels
from underfire.images.targets import SHAPES, grey_map, read_target

WORDS = "benign, class:NAME, class:random, image:PATH, image:random, shape:circle, shape:box or file:PNG"
"""The words for sources of target maps, in an error."""
FEW = 5
"""Classes that an error names one by one."""


def target_map_of(word: str, classifier: Classifier, root: Path | None = None) -> TargetMap:
    """Read the user's word for the source of target maps.

    Args:
        word: as in the table above.
        classifier: the classifier whose classes are meant.
        root: the folder of photos; the PATH of an image can lie below it.

    Raises:
        UnderfireError: no such source, class, shape or file.
    """
    kind, colon, value = word.partition(":")
    if word == "benign":
        return TargetMap()
    if kind not in ("class", "image", "shape", "file") or not colon or not value:
        raise UnderfireError(f"--target-map {word}: give {WORDS}.")
    if kind == "shape" and value not in SHAPES:
        raise core.unknown("shape", value, SHAPES)
    if kind == "shape" or value == "random":
        if kind == "file":
            raise UnderfireError(f"--target-map {word}: give {WORDS}.")
        return TargetMap(kind, value)
    if kind == "class":
        if value in DRAWN:
            raise UnderfireError(f"--target-map {word}: give class:random or a class of '{classifier.name}'.")
        return TargetMap(kind, class_of(value, classifier, "--target-map class:"))
    path = _found(value, root if kind == "image" else None)
    content = read_target(str(path))
    if kind == "file":
        grey_map(content, value)
    else:
        pixels.load(content, value, classifier.preprocess)
    return TargetMap(kind, str(path), hashlib.sha256(content).hexdigest())


def _found(value: str, root: Path | None) -> Path:
    path = Path(value).expanduser().absolute()
    if root is not None and not path.is_file():
        path = (root / value).absolute()
    if not path.is_file():
        raise UnderfireError(f"There is no file '{value}' to take a target map from.")
    return path


OWN = "own"
"""The rule by which each photo keeps its class."""
DRAWN = ("random", "least-likely", "nearest", "own")
"""Rules that give each photo a target class of its own; 'own' is the class that it has, for noise that is no attack."""


def refuse_own(targets: Iterable[str | int], attacks: Iterable[str]) -> None:
    """Refuse attacks that would reach the class that a photo has already; noise, which wants no class, may have it."""
    if OWN in targets and (aiming := sorted({name for name in attacks if name != "noise"})):
        raise UnderfireError(
            f"--target own: each photo has its class already, so '{', '.join(aiming)}' would reach it by nothing: "
            "give another target, or attack with noise alone."
        )


def targets_of(word: str, classifier: Classifier) -> tuple[str | int, ...]:
    """Read the user's word for one target class or several: 'random', 'random,least-likely,nearest', '7', 'a name'.

    A comma separates targets where a rule stands beside it or all parts are indices or ids; many names of classes have
    commas in them.

    Raises:
        UnderfireError: no class of that name, or several; the same target twice.
    """
    parts = [part.strip() for part in word.split(",")]
    ids = classifier.classes.ids
    apart = [part in DRAWN or _is_index(part) or part in ids for part in parts]
    if len(parts) == 1 or not (all(apart) or any(part in DRAWN for part in parts)):
        return (class_of(word, classifier),)
    found = tuple(class_of(part, classifier) for part in parts)
    if len(set(found)) < len(found):
        raise UnderfireError(f"--target {word} names a target twice.")
    return found


def class_of(word: str, classifier: Classifier, flag: str = "--target ") -> str | int:
    """Read the user's word for a target class.

    Args:
        word: 'random', 'least-likely', 'nearest', 'own', an index, a WordNet id or a unique part of a name.
        classifier: the classifier whose classes are meant.
        flag: the flag before the word, for the error.

    Returns:
        The index of the class, or one of `DRAWN`.

    Raises:
        UnderfireError: no class of that name, or several.
    """
    names, ids = classifier.classes.names, classifier.classes.ids
    if word in DRAWN:
        return word
    if _is_index(word):
        if 0 <= int(word) < len(names):
            return int(word)
        known = f" ({', '.join(f'{i} {name}' for i, name in enumerate(names))})" if len(names) <= FEW else ""
        raise UnderfireError(f"{flag}{word}: '{classifier.name}' has classes 0 to {len(names) - 1}{known}.")
    if word in ids:
        return ids.index(word)
    wanted = word.casefold()
    exact = [i for i, n in enumerate(names) if wanted in [part.strip().casefold() for part in (n, *n.split(","))]]
    found = exact or [i for i, n in enumerate(names) if wanted in n.casefold()]
    if len(found) == 1:
        return found[0]
    if found:
        listed = "; ".join(f"{i} {names[i]}" for i in found[:8]) + ("; …" if len(found) > 8 else "")
        raise UnderfireError(f"{flag}{word} names {len(found)} classes: {listed}. Give the index of one.")
    synonyms = [part.strip() for n in names for part in n.split(",")]
    raise core.unknown("class", word, synonyms) if len(names) <= 30 else _unknown_class(word, synonyms)


def _is_index(word: str) -> bool:
    """Tell whether a word is a whole number; '²' and '--5' are names, which no class has."""
    return re.fullmatch(r"-?\d{1,18}", word) is not None


def _unknown_class(word: str, known: list[str]) -> UnderfireError:
    said = str(core.unknown("class", word, known)).partition(" Known:")[0]
    return UnderfireError(
        f"{said} --target takes random, least-likely, nearest, an index, a WordNet id or a class name."
    )
