"""The layout of a door: to which size a photo is resized, and which part of that becomes the input.

crop     the shorter side to `resize`, then the centre
squash   both sides to `resize`, whatever the photo's shape, then the centre
pad      the longer side to `resize`, then the centre, with a border in the colour of the mean
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from underfire.core import LEVELS, Preprocess, unknown

if TYPE_CHECKING:
    from numpy.typing import NDArray

FITS = ("crop", "squash", "pad")
"""How photos that are not square become square."""


@dataclass(frozen=True)
class Layout:
    """How a photo of one size is laid out.

    Args:
        height, width: of the resized photo, px.
        top, left: of the input in it, px; negative where the input has a border.
        size: side of the input, px.
    """

    height: int
    width: int
    top: int
    left: int
    size: int

    def placed(self, resized: NDArray[Any], fill: tuple[int, int, int]) -> NDArray[Any]:
        """Crop or pad a resized photo (height, width, 3)."""
        top, left = max(0, self.top), max(0, self.left)
        inner = resized[top : self.top + self.size, left : self.left + self.size]
        if inner.shape[:2] == (self.size, self.size):
            return np.ascontiguousarray(inner)
        out = np.empty((self.size, self.size, 3), resized.dtype)
        out[:] = fill
        out[top - self.top : top - self.top + inner.shape[0], left - self.left : left - self.left + inner.shape[1]] = (
            inner
        )
        return out


def layout(height: int, width: int, policy: Preprocess, fit: str = "crop", cut: bool = True) -> Layout:
    """Lay a photo out.

    Args:
        height: of the photo, px.
        width: of the photo, px.
        policy: the classifier's sizes.
        fit: one of `FITS`.
        cut: whether the longer side is cut to whole pixels, as torchvision does; else it is rounded.
    """
    if fit not in FITS:
        raise unknown("way to fit a photo", fit, FITS)
    if fit == "squash":
        tall = wide = policy.resize
    elif fit == "pad":
        ratio = max(height, width) / policy.resize
        tall, wide = max(1, round(height / ratio)), max(1, round(width / ratio))
    else:
        tall, wide = _by_shorter(height, width, policy.resize, cut)
    top, left = _start(tall, policy.input_size), _start(wide, policy.input_size)
    return Layout(tall, wide, top, left, policy.input_size)


def _by_shorter(height: int, width: int, resize: int, cut: bool) -> tuple[int, int]:
    short, long = min(height, width), max(height, width)
    longer = int(resize * long / short) if cut else max(resize, round(long * (resize / short)))
    return (resize, longer) if height <= width else (longer, resize)


def _start(side: int, size: int) -> int:
    """Find where the input begins on one axis; a border is the larger at the end, as timm makes it."""
    return round((side - size) / 2) if side >= size else -((size - side) // 2)


def fill_of(policy: Preprocess) -> tuple[int, int, int]:
    """Give the levels of a border: those of the mean, as timm pads."""
    r, g, b = (round(LEVELS * value) for value in policy.mean)
    return r, g, b
