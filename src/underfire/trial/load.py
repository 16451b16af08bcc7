"""Load: the photos of a unit as the classifier is shown them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from underfire.core import Limits, Photo, Preprocess, UnderfireError
from underfire.images import pixels
from underfire.images.photos import PhotoLostError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Levels: TypeAlias = "NDArray[np.uint8]"
"""(N, H, W, C) pixels, 0 to 255, C = 3 colours or 1 grey; of one picture (H, W, C)."""


@dataclass(frozen=True)
class Loaded:
    """Photos as a classifier is shown them: a struct of arrays of those N that can be read.

    Args:
        given: all that were asked for.
        first: place of the first of them in the unit.
        rows: (N,) places in the unit.
        levels: (N, H, W, C) pixels.
        errors: place in the unit -> why a photo cannot be read.
    """

    given: tuple[Photo, ...]
    first: int
    rows: tuple[int, ...]
    levels: Levels
    errors: Mapping[int, str]

    @property
    def photos(self) -> tuple[Photo, ...]:
        """(N,) identities of those that can be read."""
        return tuple(self.given[row - self.first] for row in self.rows)


def load(
    photos: Sequence[Photo],
    content: Callable[[Photo], bytes],
    preprocess: Preprocess,
    first: int = 0,
    limits: Limits = Limits(),
) -> Loaded:
    """Read and crop photos; those that cannot be read are named in the errors.

    Args:
        photos: what to load.
        content: gives the file of each.
        preprocess: the classifier's input policy.
        first: place of the first photo in its unit.
        limits: how large a photo may be.

    Raises:
        PhotoLostError: a file has gone or changed, which is no property of the photo, but a mistake to be mended.
    """
    shown, errors = dict[int, Levels](), dict[int, str]()
    for row, photo in enumerate(photos, first):
        try:
            shown[row] = pixels.load(content(photo), photo.path, preprocess, limits)
        except PhotoLostError:
            raise
        except UnderfireError as e:
            errors[row] = str(e)
    levels = np.array(list(shown.values()), np.uint8).reshape(-1, *preprocess.size, preprocess.channels)
    return Loaded(tuple(photos), first, tuple(shown), levels, errors)
