"""Pictures given in Python: a tensor is what the classifier is shown, all else is a file to its front door."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from underfire.core import UnderfireError
from underfire.images import pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})


def as_shown(x: Tensor, size: int, name: str) -> NDArray[np.uint8]:
    """(N, 3, size, size) in [0, 1] -> (N, size, size, 3) levels: nothing is resized or cropped, as it is that already.

    Args:
        x: pixels.
        size: side of the classifier's input.
        name: the classifier's, for an error.

    Raises:
        UnderfireError: another shape, type or range.
    """
    fits = x.dim() == 4 and x.shape[1:] == (3, size, size) and x.is_floating_point()
    if not fits or (len(x) and not 0 <= float(x.min()) <= float(x.max()) <= 1):
        raise UnderfireError(
            f"Images of shape {tuple(x.shape)} and type {x.dtype}: '{name}' takes (N, 3, {size}, {size}), floats in "
            "[0, 1]. Files, 8-bit arrays and Pillow images may have any size."
        )
    return pixels.to_levels(x)


def as_file(picture: Any, what: str) -> bytes:
    """The PNG of an array (H, W, 3) of 8-bit levels or of a Pillow image.

    Args:
        picture: either.
        what: what an error calls it.

    Raises:
        UnderfireError: anything else.
    """
    if isinstance(picture, Image.Image):
        upright = ImageOps.exif_transpose(picture)
        buffer = io.BytesIO()
        (upright if upright.mode in PNG_MODES else upright.convert("RGB")).save(buffer, "PNG")
        return buffer.getvalue()
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3:
        return pixels.encode_png(np.ascontiguousarray(picture))
    told = f"an array of {picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
    raise UnderfireError(
        f"{what} is {told}: give a path, an array (H, W, 3) of 8-bit levels (uint8), a Pillow image, or all of them as "
        "one tensor (N, 3, H, W) in [0, 1] of the input size."
    )
