"""Load: the photos of a unit as the classifier is shown them, through its front door."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from underfire.core import Limits, Photo, Preprocess, UnderfireError
from underfire.core.door import Door
from underfire.images.photos import PhotoLostError
from underfire.images.saving import FilePhoto, file_photo

if TYPE_CHECKING:
    from numpy.typing import NDArray

Levels: TypeAlias = "NDArray[Any]"
"""(N, H, W, C) pixels, 0 to 255, C = 3 colours or 1 grey; of one picture (H, W, C). Floats where a door has them."""


@dataclass(frozen=True)
class Loaded:
    """Photos as a classifier is shown them: a struct of arrays of those N that can be read.

    Args:
        given: all that were asked for.
        first: place of the first of them in the unit.
        rows: (N,) places in the unit.
        levels: (N, H, W, C) pixels.
        errors: place in the unit -> why a photo cannot be read.
        files: (N,) their files, where these are forged; else empty.
    """

    given: tuple[Photo, ...]
    first: int
    rows: tuple[int, ...]
    levels: Levels
    errors: Mapping[int, str]
    files: tuple[FilePhoto, ...] = ()

    @property
    def photos(self) -> tuple[Photo, ...]:
        """(N,) identities of those that can be read."""
        return tuple(self.given[row - self.first] for row in self.rows)

    def part(self, start: int, stop: int) -> Loaded:
        """Take some of those that were asked for, by their number, as a batch of their own."""
        first, end = self.first + start, self.first + stop
        keep = [n for n, row in enumerate(self.rows) if first <= row < end]
        errors = {row: why for row, why in self.errors.items() if first <= row < end}
        files = tuple(self.files[n] for n in keep) if self.files else ()
        return Loaded(
            self.given[start:stop], first, tuple(self.rows[n] for n in keep), self.levels[keep], errors, files
        )


def load(
    photos: Sequence[Photo],
    content: Callable[[Photo], bytes],
    door: Door,
    policy: Preprocess,
    first: int = 0,
    limits: Limits = Limits(),
    save_as: str | None = None,
) -> Loaded:
    """Bring photos through the front door; those that cannot be read are named in the errors.

    Args:
        photos: what to load.
        content: gives the file of each.
        door: the classifier's.
        policy: the sizes and channels of its input.
        first: place of the first photo in its unit.
        limits: how large a photo may be.
        save_as: how forged files are saved, where files are forged: then each photo is shown as it is when it is saved
            the same way. None: inputs are forged.

    Raises:
        PhotoLostError: a file has gone or changed, which is no property of the photo, but a mistake to be mended.
    """
    shown, files, errors = dict[int, Levels](), list[FilePhoto](), dict[int, str]()
    for row, photo in enumerate(photos, first):
        try:
            opened = content(photo)
            if save_as is None:
                shown[row] = door.open(opened, photo.path, limits)
            else:
                file = file_photo(opened, photo.path, save_as, limits)
                shown[row] = _as_saved(door, file, photo.path)
                files.append(file)
        except PhotoLostError:
            raise
        except UnderfireError as e:
            errors[row] = str(e)
        except Exception as e:  # encoders and readers of EXIF raise whatever they like
            if save_as is None or isinstance(e, MemoryError):
                raise
            errors[row] = f"'{photo.path}' cannot be forged as a file ({type(e).__name__}: {e}): give --at input."
    levels = np.stack(list(shown.values())) if shown else np.zeros((0, *policy.size, policy.channels), np.uint8)
    return Loaded(tuple(photos), first, tuple(shown), levels, errors, tuple(files))


def _as_saved(door: Door, file: FilePhoto, path: str) -> Levels:
    """Show a file as it is when it is saved as its forgery will be.

    Raises:
        UnderfireError: the door sees another picture in the file than in its pixels, or cannot be differentiated.
    """
    saved = door.open(file.saver.save(file.pixels), path, file.limits)
    if not np.array_equal(saved, door.enter(file.saver.through(file.pixels))):
        raise UnderfireError(
            f"'{path}': the door '{door.name}' makes another input of the file than of its upright RGB pixels (it "
            "looks at the file's metadata, or does not turn it upright), so a search in the pixels cannot see through "
            "it: turn the photo upright first, or give --at input."
        )
    door.way(*file.pixels.shape[:2])
    return saved
