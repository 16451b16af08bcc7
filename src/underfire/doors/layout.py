"""The layout of a door: to which size a photo is resized, and which part of that becomes the input.

crop     the shorter side to `resize`, then the centre
squash   both sides to `resize`, whatever the photo's shape, then the centre
pad      the longer side to `resize`, then the centre, with a border in the colour of the mean
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from underfire.core import LEVELS, Preprocess, unknown

if TYPE_CHECKING:
    from numpy.typing import NDArray

FITS = ("crop", "squash", "pad")
"""How photos of another shape than the input are fitted."""


@dataclass(frozen=True)
class Layout:
    """How a photo of one size is laid out.

    Args:
        height, width: of the resized photo, px.
        top, left: of the input in it, px; negative where the input has a border.
        size: height and width of the input, px.
    """

    height: int
    width: int
    top: int
    left: int
    size: tuple[int, int]

    def placed(self, resized: NDArray[Any], fill: tuple[int, ...]) -> NDArray[Any]:
        """Crop or pad a resized photo (height, width, C)."""
        top, left = max(0, self.top), max(0, self.left)
        inner = resized[top : self.top + self.size[0], left : self.left + self.size[1]]
        if inner.shape[:2] == self.size:
            return np.ascontiguousarray(inner)
        out = np.empty((*self.size, resized.shape[-1]), resized.dtype)
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
    covered = [side * policy.resize / min(policy.size) for side in policy.size]
    covered = [int(side) for side in covered] if cut else covered
    if fit == "squash":
        tall, wide = (round(side) for side in covered)
    elif fit == "pad":
        ratio = max(height / covered[0], width / covered[1])
        tall, wide = max(1, round(height / ratio)), max(1, round(width / ratio))
    elif policy.width is None:
        tall, wide = _by_shorter(height, width, policy.resize, cut)
    else:
        tall, wide = _covering(height, width, covered)
    return Layout(tall, wide, _start(tall, policy.size[0]), _start(wide, policy.size[1]), policy.size)


def _by_shorter(height: int, width: int, resize: int, cut: bool) -> tuple[int, int]:
    short, long = min(height, width), max(height, width)
    longer = int(resize * long / short) if cut else max(resize, round(long * (resize / short)))
    return (resize, longer) if height <= width else (longer, resize)


def _covering(height: int, width: int, covered: Sequence[float]) -> tuple[int, int]:
    """Make a photo as small as it can be and still cover a rectangle, as timm does for inputs that are not square."""
    scale = max(covered[0] / height, covered[1] / width)
    return max(round(covered[0]), round(height * scale)), max(round(covered[1]), round(width * scale))


def _start(side: int, size: int) -> int:
    """Find where the input begins on one axis; a border is the larger at the end, as timm makes it."""
    return round((side - size) / 2) if side >= size else -((size - side) // 2)


def fill_of(policy: Preprocess) -> tuple[int, ...]:
    """Give the levels of a border, for each channel: those of the mean, as timm pads."""
    return tuple(round(LEVELS * value) for value in policy.mean)
