"""The treatments that a forged file is put through: what platforms do to uploads, one thing at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from underfire.doors.platforms import habits

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Treatment:
    """What is done to the pixels of a file before they reach the door.

    Args:
        name: for the table.
        words: habits (`doors.platforms`), one after the other.
        back: whether the result is resized to what the photo was.
    """

    name: str
    words: str = ""
    back: bool = False

    def of(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Do it to upright RGB pixels (h, w, 3)."""
        height, width = pixels.shape[:2]
        rng = np.random.default_rng(0)
        for habit in habits(self.words):
            pixels = habit.step(rng).forward(pixels)
        if self.back and pixels.shape[:2] != (height, width):
            pixels = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
        return pixels


TREATMENTS: Sequence[Treatment] = (
    Treatment("as it is"),
    Treatment("metadata stripped, turned upright"),  # pixels are all that is left of it
    Treatment("JPEG 95", "jpeg:95"),
    Treatment("JPEG 85", "jpeg:85"),
    Treatment("JPEG 75", "jpeg:75"),
    Treatment("WebP 80", "webp:80"),
    Treatment("longer side 2048 at most, JPEG 85", "long:2048,jpeg:85"),
    Treatment("longer side 1080 at most", "long:1080"),
    Treatment("longer side 720 at most", "long:720"),
    Treatment("half size", "resize:0.5"),
    Treatment("half size and back", "resize:0.5", back=True),
    Treatment("centre of 95 %", "crop:0.95"),
    Treatment("shifted by a pixel", "shift:1"),
    Treatment("blurred, 0.5 px", "blur:0.5"),
    Treatment("gamma 1.05", "gamma:1.05"),
)
"""What `underfire survive` tries; the first row is no treatment."""
DOORS = ("pillow", "timm", "torch", "torch:no-antialias", "opencv", "opencv:area", "pillow:squash")
"""The other front doors that it tries, as far as they are installed and know the interpolation."""
