"""What an attack wants: a class and a map for each image, from the user's words and the image's own seed.

    benign                      the interpreter's map of the clean image for its own class: nothing looks touched
    class:NAME, class:random    its map of the clean image for another class; random: neither source nor target
    image:PATH, image:random    its map of another photo for that photo's own class
    shape:circle, shape:box     drawn, at a place of the image's own
    file:PNG                    a grey picture, resized to the map's size

Every random choice depends on (seed, image digest) and on what it is for, never on the batch.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from underfire import core, images
from underfire.core import LEVELS, Classifier, Photo, TargetMap, UnderfireError
from underfire.core.hashing import seed_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHAPES = ("circle", "box")
WORDS = "benign, class:NAME, class:random, image:PATH, image:random, shape:circle, shape:box or file:PNG"
SAMPLES = 16
"""A drawn map's pixel is the mean of so many points a side: maps of 7×7 need soft edges."""


def draw_class(seed: int, photo: Photo, purpose: str, k: int, but: Sequence[int]) -> int:
    """One of ``k`` classes for one photo, none of ``but``, all others equally likely."""
    rest = sorted(set(but))
    if len(rest) >= k:
        raise UnderfireError(f"A classifier of {k} classes has no class besides {', '.join(map(str, rest))}.")
    drawn = int(np.random.default_rng(seed_of(seed, photo, purpose)).integers(k - len(rest)))
    for taken in rest:
        drawn += drawn >= taken
    return drawn


def draw_photo(seed: int, photo: Photo, photos: Sequence[Photo]) -> Photo:
    """Another photo of the same audit, all equally likely."""
    others = [other for other in photos if other.sha256 != photo.sha256]
    if not others:
        raise UnderfireError("--target-map image:random needs at least two different photos: give more photos.")
    return others[int(np.random.default_rng(seed_of(seed, photo, "target map")).integers(len(others)))]


def draw_shape(kind: str, seed: int, photo: Photo, size: tuple[int, int]) -> NDArray[np.float64]:
    """A map (h, w) with one circle or box of ones at a place of the photo's own, the rest zeros, soft edges."""
    rng = np.random.default_rng(seed_of(seed, photo, "target map"))
    h, w = rng.uniform(0.15, 0.3, 2)  # half of the height and width, as shares of the side
    if kind == "circle":
        w = h
    row, column = rng.uniform(h, 1 - h), rng.uniform(w, 1 - w)
    y = ((np.arange(size[0] * SAMPLES) + 0.5) / (size[0] * SAMPLES) - row)[:, None] / h
    x = ((np.arange(size[1] * SAMPLES) + 0.5) / (size[1] * SAMPLES) - column)[None] / w
    inside = x**2 + y**2 <= 1 if kind == "circle" else np.maximum(abs(x), abs(y)) <= 1
    m = inside.reshape(size[0], SAMPLES, size[1], SAMPLES).mean((1, 3))
    return np.asarray((m - m.min()) / np.ptp(m), np.float64)  # a coarse map may have no pixel that is all inside


def read_map(target: TargetMap, size: tuple[int, int]) -> NDArray[np.float64]:
    """The map (h, w) in [0, 1] of a file; UnderfireError if it is not the file any more that the plan was made with."""
    content = _content(str(target.value))
    if hashlib.sha256(content).hexdigest() != target.digest:
        raise UnderfireError(f"'{target.value}' has changed since the plan was made: run again.")
    grey = _grey(content, str(target.value))
    return np.asarray(grey.resize(size[::-1], Image.Resampling.BOX), np.float64) / LEVELS


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as e:
        raise UnderfireError(f"Cannot read the target map '{path}' ({e.strerror}).") from e


def _grey(content: bytes, path: str) -> Image.Image:
    try:
        with Image.open(io.BytesIO(content)) as picture:
            grey = picture.convert("L")
    except Exception as e:  # decoders raise whatever they like on broken files
        raise UnderfireError(f"--target-map file:{path}: that is no picture that can be read.") from e
    if grey.getextrema()[0] == grey.getextrema()[1]:
        raise UnderfireError(f"--target-map file:{path}: one grey all over is no map.")
    return grey


def target_map_of(word: str, classifier: Classifier, root: Path | None = None) -> TargetMap:
    """The source of target maps that a word means.

    Args:
        word: as in the module's table.
        classifier: whose classes are meant.
        root: the photos' folder; the PATH of an image may lie below it.

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
        if value == "least-likely":
            raise UnderfireError(f"--target-map {word}: give class:random or a class of '{classifier.name}'.")
        return TargetMap(kind, class_of(value, classifier, "--target-map class:"))
    path = _found(value, root if kind == "image" else None)
    content = _content(str(path))
    if kind == "file":
        _grey(content, value)
    else:
        images.load(content, value, classifier.preprocess)
    return TargetMap(kind, str(path), hashlib.sha256(content).hexdigest())


def _found(value: str, root: Path | None) -> Path:
    path = Path(value).expanduser().absolute()
    if root is not None and not path.is_file():
        path = (root / value).absolute()
    if not path.is_file():
        raise UnderfireError(f"There is no file '{value}' to take a target map from.")
    return path


def class_of(word: str, classifier: Classifier, flag: str = "--target ") -> str | int:
    """A target as a class index, or 'random' or 'least-likely'.

    Args:
        word: one of those two, an index, a WordNet id or a unique part of a name.
        classifier: whose classes are meant.
        flag: what the user wrote it behind.
    """
    names, ids = classifier.classes.names, classifier.classes.ids
    if word in ("random", "least-likely"):
        return word
    if word.lstrip("-").isdigit():
        if 0 <= int(word) < len(names):
            return int(word)
        raise UnderfireError(f"{flag}{word}: '{classifier.name}' has classes 0 to {len(names) - 1}.")
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


def _unknown_class(word: str, known: list[str]) -> UnderfireError:
    said = str(core.unknown("class", word, known)).partition(" Known:")[0]
    return UnderfireError(f"{said} --target takes random, least-likely, an index, a WordNet id or a class name.")
