"""Doors that resize with Pillow: underfire's own, and that of timm and torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from underfire.core import Preprocess
from underfire.doors.geometry import matrix, placed
from underfire.doors.linear import LinearDoor
from underfire.images import pixels
from underfire.images.formats import picture as as_picture
from underfire.registry import register

if TYPE_CHECKING:
    from numpy.typing import NDArray


class PillowDoor(LinearDoor):
    """Pillow's two passes, with its rounding to 8 bits after each."""

    def __init__(self, kind: str, variant: str, policy: Preprocess) -> None:
        super().__init__(kind, variant, policy)
        self.method = Image.Resampling[policy.interpolation.upper()]

    def resize(self, picture: NDArray[np.uint8], height: int, width: int) -> NDArray[Any]:
        """Resize a photo (h, w, C)."""
        return np.asarray(as_picture(picture).resize((width, height), self.method))

    def line(self, rows: NDArray[np.float32], size: int) -> NDArray[np.float32]:
        """Resize each row of floats (b, n) by itself to (b, size)."""
        return np.asarray(Image.fromarray(rows).resize((size, len(rows)), self.method))

    def _along(self, n: int, m: int, first: int, size: int) -> Any:
        """Read off the rows that the crop keeps, alone: a panorama's longer side may become huge."""
        if n == m:
            return placed(matrix(n, lambda rows: rows), first, size)
        if first < 0 or first + size > m:
            return super()._along(n, m, first, size)
        box = (first * n / m, (first + size) * n / m)

        def line(rows: NDArray[np.float32]) -> NDArray[np.float32]:
            whole = (box[0], 0, box[1], len(rows))
            return np.asarray(Image.fromarray(rows).resize((size, len(rows)), self.method, whole))

        return matrix(n, line)


class OwnDoor(PillowDoor):
    """The loader of underfire: it resamples no more than the crop keeps, and rounds the longer side."""

    cut = False

    def enter(self, picture: NDArray[np.uint8]) -> NDArray[Any]:
        """Load as ever (`pixels.fitted`)."""
        if self.fit != "crop":
            return super().enter(picture)
        return pixels.fitted(Image.fromarray(picture), self.policy)


@register("doors", "pillow")
def pillow(variant: str, policy: Preprocess) -> PillowDoor:
    """Pillow: the default; 'pillow:squash' and 'pillow:pad' fit photos in other ways."""
    return OwnDoor("pillow", variant, policy)


@register("doors", "timm")
def timm(variant: str, policy: Preprocess) -> PillowDoor:
    """Pillow as timm and torchvision call it: the longer side is cut to whole pixels; squash, pad (timm's border)."""
    return PillowDoor("timm", variant, policy)
