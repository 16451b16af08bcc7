"""Targets of a photo: a random class, a random other photo, a drawn map; each from (seed, photo's digest) alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from underfire.core import LEVELS, MismatchError, Photo, TargetMap, TooFewError, UnderfireError
from underfire.core.hashing import seed_of
from underfire.images.formats import opened

if TYPE_CHECKING:
    from numpy.typing import NDArray


SHAPES = ("circle", "box")
"""Maps that are drawn."""
SAMPLES = 16
"""Points a side whose mean is one pixel of a drawn map: maps of 7×7 need soft edges."""


def draw_class(seed: int, photo: Photo, purpose: str, k: int, but: Sequence[int]) -> int:
    """Draw one of ``k`` classes for a photo, all equally likely except those in ``but``, which are never drawn.

    Raises:
        UnderfireError: no class is left.
    """
    rest = sorted(set(but))
    if len(rest) >= k:
        raise UnderfireError(f"A classifier of {k} classes has no class besides {', '.join(map(str, rest))}.")
    drawn = int(np.random.default_rng(seed_of(seed, photo, purpose)).integers(k - len(rest)))
    for taken in rest:
        drawn += drawn >= taken
    return drawn


def draw_photo(seed: int, photo: Photo, photos: Sequence[Photo]) -> Photo:
    """Draw another photo of the same audit, all equally likely.

    Raises:
        UnderfireError: there is no other photo.
    """
    others = [other for other in photos if other.sha256 != photo.sha256]
    if not others:
        raise TooFewError("--target-map image:random needs at least two different photos: give more photos.")
    return others[int(np.random.default_rng(seed_of(seed, photo, "target map")).integers(len(others)))]


def draw_shape(kind: str, seed: int, photo: Photo, size: tuple[int, int]) -> NDArray[np.float64]:
    """Draw a map (h, w) of zeros with one circle or box of ones, with soft edges, at a position of the photo's own."""
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
    """Read the map (h, w), in [0, 1], of a file.

    Raises:
        UnderfireError: it is not the file that the plan was made with, or no picture.
    """
    content = read_target(str(target.value))
    if hashlib.sha256(content).hexdigest() != target.digest:
        raise MismatchError(f"'{target.value}' has changed since the plan was made: run again.")
    grey = grey_map(content, str(target.value))
    return np.asarray(grey.resize(size[::-1], Image.Resampling.BOX), np.float64) / LEVELS


def read_target(path: str) -> bytes:
    """Read the file of a target map, or of the photo whose map it is.

    Raises:
        UnderfireError: it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as e:
        raise UnderfireError(f"Cannot read the target map '{path}' ({e.strerror}).") from e


def grey_map(content: bytes, path: str) -> Image.Image:
    """Decode the picture of a target map as grey.

    Args:
        content: the bytes of the file.
        path: its name in an error.

    Raises:
        UnderfireError: no picture, or one of a single grey.
    """
    try:
        with opened(content) as picture:
            grey = picture.convert("L")
    except Exception as e:  # decoders raise whatever they like on broken files
        raise UnderfireError(f"--target-map file:{path}: this is no picture that can be read.") from e
    if grey.getextrema()[0] == grey.getextrema()[1]:
        raise UnderfireError(f"--target-map file:{path}: a picture of one single grey is no map.")
    return grey
