"""The ball in one file, where a step goes through the photo a few rows at a time.

A photo may be much larger than the processor's cache. Whatever a step does with some rows, from the gradient there to
the rounded levels, it does while they are in it; the bounds are kept in 8 bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from underfire.attacks.search.settings import StepSize
from underfire.core import PerImage
from underfire.core.door import PartGradient


class BallInBands:
    """The position of one file in the ball.

    Args:
        step: η in levels over the search.
        position: (3, h, w) where it starts, in levels.
        low, high: (3, h, w) bounds in 8-bit levels.
    """

    def __init__(self, step: StepSize, position: Tensor, low: Tensor, high: Tensor) -> None:
        self.step, self.position, self.low, self.high = step, position, low, high
        self._levels, self._aimed = position.round().byte(), position

    def levels(self) -> Tensor:
        """Give the part as it would be saved, (1, 3, h, w) in 8-bit levels; the next step overwrites it."""
        return self._levels[None]

    def measures(self) -> Mapping[str, PerImage]:
        """Give nothing more: the framework measures the change of levels itself."""
        return {}

    def follow(self, direction: PartGradient, progress: float) -> None:
        """Take a step down the sign of a gradient, or of a running sum of them."""
        step = self.step.at(progress)
        for rows, some in direction.bands():
            self._move(rows, some, step)

    def _move(self, rows: slice, some: Tensor, step: float) -> None:
        """Move some rows down the sign of ``some`` (3, b, w), which is room for the rest of it afterwards."""
        at = self.position[:, rows].sub_(some.sign_(), alpha=step)
        torch.maximum(at, some.copy_(self.low[:, rows]), out=at)
        torch.minimum(at, some.copy_(self.high[:, rows]), out=at)
        torch.round(at, out=some)
        if some.is_cpu:  # NumPy does it four times as fast
            np.copyto(self._levels[:, rows].numpy(), some.numpy(), casting="unsafe")
        else:
            self._levels[:, rows].copy_(some)

    def turn(self, direction: Tensor, progress: float) -> None:
        """Choose a whole step down the sign of a gradient (1, 3, h, w); `go` takes it."""
        self._aimed = self.step.at(progress) * direction[0].sign()

    def tried_levels(self, share: PerImage) -> Tensor:
        """Show what lies at a ``share`` (1,) of the step, (1, 3, h, w) in 8-bit levels."""
        return self._inside(self.position - share * self._aimed).round().byte()[None]

    def go(self, share: PerImage) -> None:
        """Take a ``share`` (1,) of the step."""
        self._go(self.position - share * self._aimed)

    def where(self, row: int) -> Tensor:
        """Give the position, (1, 3, h, w) in levels."""
        return self.position[None].clone()

    def go_to(self, positions: Sequence[Tensor]) -> None:
        """Go to the nearest position in the ball."""
        self._go(positions[0][0].to(self.position))

    def _go(self, position: Tensor) -> None:
        self.position = self._inside(position)
        self._levels = self.position.round().byte()

    def _inside(self, position: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(position, self.low), self.high)
