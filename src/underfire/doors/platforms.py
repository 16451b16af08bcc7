"""What platforms do to uploads: steps between a saved file and a door, with their way back where a search expects them.

jpeg:75-95   webp:80   resize:0.5-1   long:1080   crop:0.95   shift:1   blur:0.5   gamma:1.05   half   none
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageFilter

from underfire.core import LEVELS, UnderfireError, unknown
from underfire.doors.geometry import Geometry, matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALLEST = 16
"""Shorter side, px, below which no platform shrinks a photo here."""


class Step:
    """One thing that is done to the pixels of a photo; `size` is what it last gave, (h, w) px."""

    size: tuple[int, int] = (0, 0)

    def forward(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Do it to pixels (h, w, 3)."""
        raise NotImplementedError

    def back(self, gradient: NDArray[np.float32]) -> NDArray[np.float32]:
        """Carry a gradient at what `forward` last gave back to what it took; straight through what is not smooth."""
        raise NotImplementedError


class Encoded(Step):
    """Saved by a lossy encoder and read back."""

    def __init__(self, format: str, quality: float) -> None:  # noqa: A002 (Pillow's word)
        self.format, self.quality = format, round(quality)

    def forward(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Save and read back."""
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, self.format, quality=self.quality)
        with Image.open(buffer, formats=[self.format]) as image:
            found = np.asarray(image.convert("RGB"))
        self.size = found.shape[:2]
        return found

    def back(self, gradient: NDArray[np.float32]) -> NDArray[np.float32]:
        """Straight through."""
        return gradient


class Resized(Step):
    """Resized by Pillow, as photo services do: by a factor, or to a longer side that is never enlarged."""

    def __init__(self, factor: float = 1.0, longer: int | None = None) -> None:
        self.factor, self.longer = factor, longer
        self._from = (0, 0)

    def forward(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize."""
        self._from = height, width = pixels.shape[:2]
        factor = self.factor if self.longer is None else min(1.0, self.longer / max(height, width))
        factor = max(factor, min(1.0, SMALLEST / min(height, width)))
        self.size = (max(1, round(height * factor)), max(1, round(width * factor)))
        if self.size == self._from:
            return pixels
        return np.asarray(Image.fromarray(pixels).resize(self.size[::-1], Image.Resampling.BICUBIC))

    def back(self, gradient: NDArray[np.float32]) -> NDArray[np.float32]:
        """Carry back by the transposed matrices."""
        if self.size == self._from:
            return gradient
        (height, width), (tall, wide) = self._from, self.size
        return Geometry(_resizing(height, tall), _resizing(width, wide)).back(gradient)


def _resizing(n: int, m: int) -> Any:
    return matrix(n, lambda rows: np.asarray(Image.fromarray(rows).resize((m, len(rows)), Image.Resampling.BICUBIC)))


class Cut(Step):
    """The centre, cut out: ``share`` of each side; or all but the first ``shift`` rows and columns."""

    def __init__(self, share: float = 1.0, shift: int = 0) -> None:
        self.share, self.shift = share, shift
        self._from, self._start = (0, 0), (0, 0)

    def forward(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Cut."""
        self._from = height, width = pixels.shape[:2]
        if self.shift:
            self._start, self.size = (self.shift, self.shift), (height - self.shift, width - self.shift)
        else:
            self.size = (max(1, round(height * self.share)), max(1, round(width * self.share)))
            self._start = ((height - self.size[0]) // 2, (width - self.size[1]) // 2)
        return np.ascontiguousarray(pixels[self._where])

    def back(self, gradient: NDArray[np.float32]) -> NDArray[np.float32]:
        """Put back; nothing where it was cut off."""
        whole = np.zeros((*self._from, 3), np.float32)
        whole[self._where] = gradient
        return whole

    @property
    def _where(self) -> tuple[slice, slice]:
        (top, left), (tall, wide) = self._start, self.size
        return slice(top, top + tall), slice(left, left + wide)


class Blurred(Step):
    """Blurred by Pillow's Gaussian of some radius, px."""

    def __init__(self, radius: float) -> None:
        self.filter = ImageFilter.GaussianBlur(radius)

    def forward(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Blur."""
        self.size = pixels.shape[:2]
        return np.asarray(Image.fromarray(pixels).filter(self.filter))

    def back(self, gradient: NDArray[np.float32]) -> NDArray[np.float32]:
        """Blur the gradient: the kernel is symmetric. It is scaled to 8 bits' range, which Pillow's filter works in."""
        from scipy.ndimage import gaussian_filter  # noqa: PLC0415 (only where it is needed)

        sigma = float(self.filter.radius)  # type: ignore[arg-type]
        found: NDArray[np.float32] = gaussian_filter(gradient, (sigma, sigma, 0), mode="nearest")
        return found


class Gamma(Step):
    """Made darker or brighter: 255 (p/255)^γ, rounded."""

    def __init__(self, gamma: float) -> None:
        levels = np.arange(LEVELS + 1) / LEVELS
        self.table = np.rint(LEVELS * levels**gamma).astype(np.uint8)
        self.slope = (gamma * np.clip(levels, 1 / LEVELS, 1) ** (gamma - 1)).astype(np.float32)
        self._from = np.zeros((0, 0, 3), np.uint8)

    def forward(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Look each level up."""
        self._from, self.size = pixels, pixels.shape[:2]
        return self.table[pixels]

    def back(self, gradient: NDArray[np.float32]) -> NDArray[np.float32]:
        """Multiply by the slope."""
        found: NDArray[np.float32] = gradient * self.slope[self._from]
        return found


class Same(Step):
    """Nothing is done, or nothing that pixels show, such as metadata that are stripped."""

    def forward(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Give the pixels as they are."""
        self.size = pixels.shape[:2]
        return pixels

    def back(self, gradient: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the gradient as it is."""
        return gradient


STEPS: dict[str, tuple[Callable[[float], Step], float, float]] = {
    "jpeg": (partial(Encoded, "JPEG"), 1, 100),
    "webp": (partial(Encoded, "WEBP"), 1, 100),
    "resize": (Resized, 0.05, 4),
    "long": (lambda side: Resized(longer=round(side)), 16, 100_000),
    "crop": (Cut, 0.1, 1),
    "shift": (lambda px: Cut(shift=round(px)), 1, 64),
    "blur": (Blurred, 0.01, 20),
    "gamma": (Gamma, 0.2, 5),
}
"""Word -> what makes the step of a number, and the smallest and the largest number."""


@dataclass(frozen=True)
class Habit:
    """One thing that a platform does, with a number between two.

    Args:
        word: one of `STEPS`.
        low, high: the number is drawn evenly between these.
    """

    word: str
    low: float
    high: float

    def step(self, rng: np.random.Generator) -> Step:
        """Draw one."""
        return STEPS[self.word][0](float(rng.uniform(self.low, self.high)) if self.high > self.low else self.low)


def habits(words: str) -> tuple[Habit, ...]:
    """Read a list of habits, such as 'jpeg:75-95,resize:0.5-1'.

    Raises:
        UnderfireError: an unknown word, or numbers that make no sense.
    """
    return tuple(_habit(word.strip(), words) for word in words.split(",") if word.strip())


def _habit(word: str, words: str) -> Habit:
    name, _, span = word.partition(":")
    if name not in STEPS:
        raise unknown("thing that platforms do", name, STEPS)
    low, dash, high = span.partition("-")
    smallest, largest = STEPS[name][1:]
    try:
        ends = float(low), float(high if dash else low)
    except ValueError:
        ends = 1.0, 0.0
    if not smallest <= ends[0] <= ends[1] <= largest:
        raise UnderfireError(
            f"--through {words}: '{word}' needs a number, or two with a dash between, from {smallest:g} to "
            f"{largest:g}, such as {name}:{max(smallest, min(largest, 0.9)):g}."
        )
    return Habit(name, *ends)


class Draw:
    """What happens to one file at each step of a search: one habit, or as often nothing, drawn anew.

    Args:
        chosen: the habits.
        seed: the image's.
    """

    def __init__(self, chosen: Sequence[Habit], seed: int) -> None:
        self.chosen, self._rng = tuple(chosen), np.random.default_rng(seed)

    def next(self) -> list[Step]:
        """Draw the steps of the next time."""
        n = int(self._rng.integers(len(self.chosen) + 1))
        return [self.chosen[n].step(self._rng)] if n < len(self.chosen) else []
