"""The L∞ ball as a search space (Madry et al. 2018; the momentum is Dong et al.'s, 2018).

    position  p in levels, lo ≤ p ≤ hi,  lo = max(0, x_o − ε), hi = min(255, x_o + ε)
    images    round(p) / 255                                  the gradient there is used at p (straight through)
    step      v ← μ v + g / ‖g‖₁ ,   p ← clip(p − η(t) · sign(v), lo, hi)

The bounds are whole levels of the clean PNG, so rounding can never leave the ball.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from underfire.attacks.search.ball_in_bands import BallInBands
from underfire.attacks.search.finite import GRADIENT, refuse
from underfire.attacks.search.momentum import Momentum
from underfire.attacks.search.settings import Decay, Schedule, StepSize
from underfire.core import LEVELS, Images, PerImage


@dataclass(frozen=True)
class Ball:
    """The L∞ ball around each clean image.

    Args:
        eps: ε in whole levels of 255.
        step: η in levels over the search.
        momentum: μ in [0, 1); 0 is the plain sign step.
        restart: 0 starts at the clean image; any other number at a random place of the ball, drawn from that number
            and the image alone.
    """

    spelled: ClassVar[str] = "Ball"
    eps: Annotated[int, Field(ge=1, le=LEVELS)]
    step: StepSize = Schedule(1.0)
    momentum: Decay = 0.0
    restart: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 0

    def walk(self, x: Images) -> BallWalk:
        """Start at the clean images ``x``, or at a random place around them."""
        return BallWalk(self, x)

    def walk_in(self, part: Images, view: tuple[float, float], row: int = 0) -> BallWalk:
        """Start at the part of a file; a ball is the same in any ``view``."""
        return self.walk(part)

    def in_bands(self, part: Images) -> BallInBands:
        """Start there for steps in bands of rows, whose momentum somebody else keeps."""
        start = self.walk(part)
        return BallInBands(self.step, start.position[0], start.low[0].byte(), start.high[0].byte())


class BallWalk:
    """One batch's position in the ball.

    Args:
        ball: its size and steps.
        x: (N, 3, H, W) clean images in [0, 1], on the 8-bit grid.
    """

    def __init__(self, ball: Ball, x: Images) -> None:
        self.ball = ball
        levels = (x.detach() * LEVELS).round()
        self.low, self.high = (levels - ball.eps).clamp_min(0), (levels + ball.eps).clamp_max(LEVELS)
        self.position = self._random_start(levels) if ball.restart else levels.clone()
        self.momentum = Momentum(ball.momentum)
        self._shown = self._aimed = levels

    def _random_start(self, levels: Tensor) -> Tensor:
        rows = []
        for row in levels:
            content = row.byte().cpu().numpy().tobytes() + self.ball.restart.to_bytes(8, "big", signed=True)
            generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(content).digest()[:7], "big"))
            rows.append(2 * torch.rand(row.shape, generator=generator, dtype=row.dtype) - 1)
        noise = self.ball.eps * torch.stack(rows).to(levels)
        return torch.minimum(torch.maximum(levels + noise, self.low), self.high)

    def images(self) -> Images:
        """Give the images as they would be saved, as a leaf."""
        self._shown = (self.position.round() / LEVELS).requires_grad_()
        return self._shown

    def levels(self) -> Tensor:
        """Give the images in 8-bit levels, for a walk in a file."""
        return self.position.round().byte()

    def measures(self) -> Mapping[str, PerImage]:
        """Give nothing more: the framework measures the change of levels itself."""
        return {}

    def step(self, loss: PerImage, progress: float) -> None:
        """Go down the sign of the gradient, or of its running sum where there is momentum."""
        self.descend(torch.autograd.grad(loss.sum(), self._shown)[0], progress)

    def descend(self, direction: Tensor, progress: float) -> None:
        """Take the same step, given the gradient (N, 3, H, W) at the last `images`."""
        self.position.sub_(self.momentum.along(direction).sign(), alpha=self.ball.step.at(progress))
        torch.clamp(self.position, self.low, self.high, out=self.position)

    def aim(self, loss: PerImage, progress: float) -> None:
        """Choose a whole step down the sign of the gradient of a loss (N,) of the last `images`; `go` takes it."""
        self.turn(torch.autograd.grad(loss.sum(), self._shown)[0], progress)

    def turn(self, direction: Tensor, progress: float) -> None:
        """Do the same, given the gradient (N, 3, H, W)."""
        refuse(direction.sum((1, 2, 3)), GRADIENT)
        self._aimed = self.ball.step.at(progress) * direction.sign()

    def tried(self, share: PerImage) -> Images:
        """Show the images that lie at a ``share`` (N,) of the step."""
        return self._at(share).round() / LEVELS

    def tried_levels(self, share: PerImage) -> Tensor:
        """Show the same in 8-bit levels."""
        return self._at(share).round().byte()

    def go(self, share: PerImage) -> None:
        """Take a ``share`` (N,) of the step."""
        self.position = self._at(share)

    def _at(self, share: PerImage) -> Tensor:
        return (self.position - share.view(-1, 1, 1, 1) * self._aimed).clamp(self.low, self.high)

    def where(self, row: int) -> Tensor:
        """Give the position of one image, (1, 3, H, W) in levels."""
        return self.position[row : row + 1].clone()

    def go_to(self, positions: Sequence[Tensor]) -> None:
        """Go to the nearest positions in the ball."""
        self.position = torch.cat(list(positions)).to(self.position).clamp(self.low, self.high)

    def select(self, keep: Tensor) -> None:
        """Keep only the rows ``keep`` (bool (N,))."""
        self.position, self.low, self.high = self.position[keep], self.low[keep], self.high[keep]
        self.momentum.select(keep)
