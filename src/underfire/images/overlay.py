"""Small pictures for people: a map over its image, and the magnified difference of two images. PIL and numpy only."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from underfire.images.formats import picture
from underfire.images.inferno import inferno

SIDE = 224
"""Longest side of a small picture, px: the input size of most classifiers, and sharp at 110 px on a fine screen."""
OVERLAY = 0.65
"""Weight of the map's colour over the grey image."""
Pixels = NDArray[np.uint8]
"""(H, W, C) levels, from 0 to 255; C is 3, or 1 for grey."""


def difference(clean: Pixels, after: Pixels, side: int = SIDE) -> tuple[str | None, int]:
    """Draw the change of an image around mid-grey, magnified by the largest whole number that fits.

    Args:
        clean: (H, W, 3).
        after: likewise.
        side: longest side of the picture, px.

    Returns:
        The picture as a data URI, None for images of different sizes; and the number.
    """
    if clean.shape != after.shape:
        return None, 1
    change, factor = magnified(clean, after)
    # Noise compresses badly: at a higher quality these would outweigh all the other pictures.
    return uri(change, 50, side), factor


def magnified(clean: Pixels, after: Pixels) -> tuple[Pixels, int]:
    """Draw the same change as levels (H, W, C), and tell its number; the images have one size."""
    delta = after.astype(np.int16) - clean
    factor = max(1, 127 // max(1, int(np.abs(delta).max())))
    return np.clip(128 + factor * delta, 0, 255).astype(np.uint8), factor


def overlay(image: Pixels | None, m: NDArray[np.float32] | None) -> str | None:
    """Draw the map in colour over the grey image, as a data URI; None where either is missing."""
    return None if image is None or m is None else uri(over(image, m))


def over(image: Pixels, m: NDArray[Any]) -> Pixels:
    """Draw the map (h, w), in [0, 1], in colour over the grey image (H, W, C)."""
    height, width = image.shape[:2]
    large = Image.fromarray(np.asarray(m, np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    grey = np.asarray(picture(image).convert("L"), np.float64)[..., None]
    mixed: Pixels = np.rint(OVERLAY * inferno(np.asarray(large)) + (1 - OVERLAY) * grey).astype(np.uint8)
    return mixed


def uri(pixels: Pixels | None, quality: int = 78, side: int = SIDE) -> str | None:
    """Encode an image as a small JPEG in a data URI; None where there is no image."""
    if pixels is None:
        return None
    small = picture(pixels)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def legend() -> list[str]:
    """Return the colours of the map scale from 0 to 1, as they look over a mid-grey image."""
    mixed = np.rint(OVERLAY * inferno(np.linspace(0, 1, 7)) + (1 - OVERLAY) * 128).astype(int)
    return ["#" + "".join(f"{v:02x}" for v in stop) for stop in mixed]
