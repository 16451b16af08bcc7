"""Natural copies of a photo: what happens to pictures without anybody's intent (method, section 5.5). No torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from underfire.images import pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Copy = Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]
    """Pixels (H, W, 3) and a seed -> pixels (H, W, 3)."""

WHITE = 255.0


def _jpeg(quality: int) -> Copy:
    return lambda levels, seed: pixels.jpeg(levels, quality)


def _noise(levels: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """Move each value by −1, 0 or +1 level, each as likely."""
    moved = levels.astype(np.int16) + np.random.default_rng(seed).integers(-1, 2, levels.shape)
    return moved.clip(0, 255).astype(np.uint8)


def _shift(axis: int) -> Copy:
    """Shift by one pixel down (0) or right (1); the edge is repeated."""
    return lambda levels, seed: np.concatenate([levels.take([0], axis), levels], axis).take(
        range(levels.shape[axis]), axis
    )


def _gamma(power: float) -> Copy:
    return lambda levels, seed: np.rint(WHITE * (levels / WHITE) ** power).astype(np.uint8)


COPIES: dict[str, Copy] = {
    "jpeg-90": _jpeg(90),
    "noise": _noise,
    "shift-right": _shift(1),
    "jpeg-85": _jpeg(85),
    "jpeg-95": _jpeg(95),
    "shift-down": _shift(0),
    "brighter": _gamma(0.98),
    "darker": _gamma(1.02),
}
"""Name -> how the copy is made. An interpreter whose maps are dear gets the first `FEW` of them."""
FEW = 3


def natural_copies(levels: NDArray[np.uint8], seed: int, few: bool = False) -> dict[str, NDArray[np.uint8]]:
    """Copy a photo's pixels (H, W, 3) in every natural way, or in the first few; equal seeds give equal copies."""
    chosen = list(COPIES.items())[: FEW if few else None]
    return {name: copy(levels, seed) for name, copy in chosen}
