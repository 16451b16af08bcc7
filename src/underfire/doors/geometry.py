"""The geometry of a door: two sparse matrices for photos of one size, x = R_v · p · R_hᵀ, and its transpose.

The weights are the library's own: a row of pixels that are 0 but for a single 1 is resized by the library itself, and
what comes out is a column of R. Nobody has to know its formula.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from underfire.core.door import Box
from underfire.doors.bands import Bands

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Line = Callable[[NDArray[np.float32]], NDArray[np.float32]]
    """Resizes each row of pixels (b, n) by itself: (b, m)."""

BLOCK = 1 << 21
"""Pixels that are resized together while a matrix is read off."""
NOTHING = 1e-6
"""Weights below it are float32's rounding."""
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""What red, green and blue are of grey (ITU-R 601), as photos become grey for a classifier of grey images."""


def matrix(n: int, line: Line) -> Any:
    """Read off the matrix (m, n) of a function that resizes rows of ``n`` pixels to ``m``."""
    columns = []
    rows = max(1, BLOCK // n)
    for first in range(0, n, rows):
        unit = np.zeros((min(rows, n - first), n), np.float32)
        unit[np.arange(len(unit)), first + np.arange(len(unit))] = 1
        columns.append(sparse.csr_matrix(_cleared(line(unit))))
    return sparse.csr_matrix(sparse.vstack(columns).T)


def _cleared(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(np.abs(weights) < NOTHING, np.float32(0), weights)


def placed(of: Any, first: int, size: int) -> Any:
    """Cut the rows ``first`` to ``first + size`` out of a matrix; outside of it, where a door pads, rows are empty."""
    above, below = max(0, -first), max(0, first + size - of.shape[0])
    inner = of[max(0, first) : min(of.shape[0], first + size)]
    parts = [sparse.csr_matrix((n, of.shape[1]), dtype=np.float32) for n in (above, below)]
    return sparse.csr_matrix(sparse.vstack([parts[0], inner, parts[1]]))


@dataclass(frozen=True)
class Geometry:
    """The linear part of a door for photos of one size.

    Args:
        down: R_v, (H, h) sparse.
        across: R_h, (W, w) sparse.
        grey: whether the input is the luma of the photo: C is 1, else 3.
    """

    down: Any
    across: Any
    grey: bool = False

    @cached_property
    def box(self) -> Box:
        """The part of the photo that the classifier sees."""
        top, bottom = _support(self.down)
        left, right = _support(self.across)
        return Box(left, top, right, bottom)

    @cached_property
    def view(self) -> tuple[float, float]:
        """Width and height, in the photo's pixels, of what fills the input."""
        return _spacing(self.across) * self.across.shape[0], _spacing(self.down) * self.down.shape[0]

    @cached_property
    def bands(self) -> Bands:
        """The way back a few rows at a time, as a search goes it at each step."""
        box = self.box
        down, across = self.down[:, box.top : box.bottom], self.across[:, box.left : box.right]
        return Bands(down, across, LUMA if self.grey else None)

    @cached_property
    def _back(self) -> tuple[Any, Any]:
        """R_vᵀ and R_hᵀ, (h, H) and (w, W), of the box alone."""
        box = self.box
        down, across = self.down[:, box.top : box.bottom], self.across[:, box.left : box.right]
        return sparse.csr_matrix(down.T.astype(np.float32)), sparse.csr_matrix(across.T.astype(np.float32))

    def back(self, gradient: NDArray[np.float32]) -> NDArray[np.float32]:
        """Carry a gradient (H, W, C) at the input back to the box, (h, w, 3): R_vᵀ · g · R_h."""
        down, across = self._back
        height, width, colours = gradient.shape
        wide = across @ gradient.transpose(1, 0, 2).reshape(width, height * colours)
        turned = wide.reshape(-1, height, colours).transpose(1, 0, 2).reshape(height, -1)
        found: NDArray[np.float32] = (down @ turned).reshape(down.shape[0], across.shape[0], colours)
        return found * LUMA if self.grey else found

    def forward(self, pixels: NDArray[Any]) -> NDArray[np.float64]:
        """Compute R_v · p · R_hᵀ of a photo (h, w, 3), without any rounding: (H, W, C)."""
        pixels = pixels @ LUMA[:, None] if self.grey else pixels
        tall = self.down.astype(np.float64) @ pixels.reshape(len(pixels), -1).astype(np.float64)
        turned = tall.reshape(-1, *pixels.shape[1:]).transpose(1, 0, 2).reshape(pixels.shape[1], -1)
        found: NDArray[np.float64] = self.across.astype(np.float64) @ turned
        return found.reshape(-1, self.down.shape[0], pixels.shape[-1]).transpose(1, 0, 2)


def _support(of: Any) -> tuple[int, int]:
    """Find the first column with a weight, and the one after the last."""
    seen = np.unique(of.tocsr().indices)
    return (int(seen[0]), int(seen[-1]) + 1) if len(seen) else (0, of.shape[1])


def _spacing(of: Any) -> float:
    """Measure how many columns lie between the centres of two rows, in the mean."""
    weight = np.asarray(abs(of).sum(1)).ravel()
    seen = np.flatnonzero(weight)
    if len(seen) < 2:
        return float(of.shape[1])
    centre = np.asarray(abs(of) @ np.arange(of.shape[1])).ravel()[seen] / weight[seen]
    return max(abs(float(centre[-1] - centre[0])) / float(seen[-1] - seen[0]), 1e-3)
