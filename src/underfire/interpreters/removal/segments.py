"""The segments of an image that are removed together: cells of a regular grid, or superpixels."""

from __future__ import annotations

import math

import numpy as np
import torch
from skimage.segmentation import slic
from torch import Tensor

from underfire.core import Images, UnderfireError, unknown
from underfire.interpreters.cells import by_cells

KINDS = ("grid", "superpixels")


class Segments:
    """The segments of a batch of N images.

    Args:
        x: images (N, 3, H, W).
        kind: one of `KINDS`.
        number: how many segments: of a grid the nearest square number, of superpixels about as many (SLIC).
    """

    def __init__(self, x: Images, kind: str, number: int) -> None:
        self.kind, self.side = kind, grid_side(number)
        self.labels = self._grid(x) if kind == "grid" else self._superpixels(x, number)
        self.counts = [int(one.max()) + 1 for one in self.labels]

    def _grid(self, x: Images) -> Tensor:
        h, w = x.shape[2:]
        rows, columns = (torch.arange(n, device=x.device) * self.side // n for n in (h, w))
        grid: Tensor = rows[:, None] * self.side + columns
        return grid.expand(len(x), h, w)

    def _superpixels(self, x: Images, number: int) -> Tensor:
        """Find superpixels as scikit-image does by default, numbered from 0 in each image."""
        found = [slic(one.permute(1, 2, 0).double().numpy(), number, start_label=0) for one in x.detach().cpu()]
        return torch.from_numpy(np.stack(found)).to(x.device)

    def keep(self, kept: Tensor) -> Tensor:
        """Make masks (N, 1, H, W) of what is kept (N, segments) in [0, 1]."""
        return kept.gather(1, self.labels.flatten(1)).view(len(kept), 1, *self.labels.shape[1:])

    def painted(self, weights: Tensor) -> Tensor:
        """Paint weights (N, segments) on the segments: (N, side, side) of a grid, else 4×4 averaged pixels."""
        if self.kind == "grid":
            return weights.view(-1, self.side, self.side)
        return by_cells(self.keep(weights)[:, 0])


def grid_side(number: int) -> int:
    """Give the cells a side of the grid whose cells are nearest in number."""
    return round(math.sqrt(number))


def check_segments(part: str, kind: str, number: int, side: int) -> None:
    """Raise UnderfireError for an unknown kind of segments, a single one, or more segments than pixels."""
    if kind not in KINDS:
        raise unknown(f"{part} segments", kind, KINDS)
    if not 2 <= number <= side * side:
        raise UnderfireError(
            f"{part} number = {number}: it must be 2 segments or more, and no more than the input has pixels "
            f"({side}×{side})."
        )
    if kind == "grid" and grid_side(number) < 2:
        raise UnderfireError(
            f"{part} number = {number}: the nearest square grid has one cell, and there must be more to compare: give "
            "3 or more, for 2×2 cells."
        )
