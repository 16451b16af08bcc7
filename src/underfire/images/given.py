"""Images given in Python: a tensor is shown to the classifier as it is; anything else is treated as a photo's file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from underfire.core import Preprocess, UnderfireError
from underfire.images import pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
"""Modes of Pillow images that a PNG can hold."""


def as_shown(x: Tensor, policy: Preprocess, name: str) -> NDArray[np.uint8]:
    """Turn a tensor of the input size into levels (N, H, W, C); nothing is resized or cropped.

    Args:
        x: images (N, C, H, W) in [0, 1].
        policy: the classifier's input policy.
        name: name of the classifier in an error.

    Raises:
        UnderfireError: another shape, type or range.
    """
    fits = x.dim() == 4 and tuple(x.shape[1:]) == policy.shape and x.is_floating_point()
    if not fits or (len(x) and not 0 <= float(x.min()) <= float(x.max()) <= 1):
        raise UnderfireError(
            f"Images of shape {tuple(x.shape)} and type {x.dtype}: '{name}' takes "
            f"(N, {', '.join(map(str, policy.shape))}), floats in [0, 1]. Files, 8-bit arrays "
            "and Pillow images may have any size."
        )
    return pixels.to_levels(x)


def as_file(image: Any, what: str) -> bytes:
    """Encode an image as a PNG.

    Args:
        image: an array (H, W, 3) or, grey, (H, W, 1) of 8-bit levels, or a Pillow image.
        what: its name in an error.

    Raises:
        UnderfireError: it is neither.
    """
    if isinstance(image, Image.Image):
        upright = ImageOps.exif_transpose(image)
        buffer = io.BytesIO()
        (upright if upright.mode in PNG_MODES else upright.convert("RGB")).save(buffer, "PNG")
        return buffer.getvalue()
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] in (1, 3):
        return pixels.encode_png(np.ascontiguousarray(image))
    found = f"an array of {image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
    raise UnderfireError(
        f"{what} is {found}: give a path, an array (H, W, 3) of 8-bit levels (uint8), a Pillow image, or all images "
        "as one tensor (N, 3, H, W) in [0, 1] of the input size."
    )
