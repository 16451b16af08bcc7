"""Images given in Python, loaded as the photos of a unit are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from underfire.core import Photo, UnderfireError
from underfire.images import pixels
from underfire.images.given import as_file, as_shown
from underfire.images.photos import Folder
from underfire.trial.load import Loaded, load
from underfire.trial.system import System


def load_given(given: Any, system: System, save_as: str | None = None) -> Loaded:
    """Load images that were given in Python, as the classifier is shown them.

    Args:
        given: one or several paths, folders, 'demo', arrays (H, W, 3) of 8-bit levels or Pillow images, or several
            names with the content of their files; or a tensor (N, 3, H, W) in [0, 1] of the input size, or several.
        system: the classifier and its front door.
        save_as: how forged files are saved; None: inputs are forged. A tensor is an input whatever this says.

    Raises:
        UnderfireError: no images, or something else.
    """
    single = isinstance(given, str | Path | Image.Image) or _is_named(given)
    single |= isinstance(given, np.ndarray) and given.ndim <= 3
    images, classifier = [given] if single else given, system.classifier
    if not len(images):
        raise UnderfireError("There are no images to attack: give paths, arrays or a tensor.")
    if not isinstance(images, Tensor) and all(isinstance(one, Tensor) for one in images):
        images = _stacked(images)
    if isinstance(images, Tensor):
        levels = as_shown(images, classifier.preprocess, classifier.name)
        photos = tuple(_photo(f"image-{i}.png", pixels.encode_png(one)) for i, one in enumerate(levels))
        return Loaded(photos, 0, tuple(range(len(photos))), levels, {})
    files = [file for i, one in enumerate(images) for file in _files(i, one)]
    contents = {_photo(*file): file[1] for file in files}
    return load(
        [_photo(*file) for file in files], contents.__getitem__, system.door, classifier.preprocess, save_as=save_as
    )


def _stacked(images: Sequence[Tensor]) -> Tensor:
    shapes = {tuple(one.shape) for one in images}
    if len(shapes) > 1:
        raise UnderfireError(f"Tensors of several shapes, {sorted(shapes)}: give all of them in the input size.")
    return torch.stack(tuple(images)) if len(min(shapes)) == 3 else torch.cat(tuple(images))


def _is_named(one: Any) -> bool:
    """Tell whether this is a name with the content of its file."""
    return isinstance(one, tuple) and [type(part) for part in one] == [str, bytes]


def _files(i: int, one: Any) -> list[tuple[str, bytes]]:
    """Read the files of one thing that was given: a folder has several."""
    if _is_named(one):
        return [one]
    if not isinstance(one, str | Path):
        return [(f"image-{i}.png", as_file(one, f"images[{i}]"))]
    folder = Folder(str(one))
    if folder.whole:
        return [(f"{one}/{path}", folder.bytes(path)) for path in folder.paths]
    return [(str(one), folder.bytes(Path(one).name))]


def _photo(path: str, content: bytes) -> Photo:
    return Photo(path, hashlib.sha256(content).hexdigest())
