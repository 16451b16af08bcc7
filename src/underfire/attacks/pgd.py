"""PGD (Madry et al. 2018): the L∞ ball as a search space, and the attack on the prediction alone.

    position  p in levels, lo ≤ p ≤ hi,  lo = max(0, x_o − ε), hi = min(255, x_o + ε)
    images    round(p) / 255                                  the gradient there is used at p (straight through)
    step      v ← μ v + g / ‖g‖₁ ,   p ← clip(p − η(t) · sign(v), lo, hi)

The bounds are whole levels of the clean PNG, so rounding can never leave the ball.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from underfire.attacks.presets import options_of
from underfire.attacks.search import Schedule, Settings, search
from underfire.core import LEVELS, Found, Goal, Images, PerImage, Victim
from underfire.registry import register


@dataclass(frozen=True)
class Ball:
    """The L∞ ball.

    Args:
        eps: ε in whole levels.
        step: η in levels over the search.
        momentum: μ; 0 is the plain sign step.
        restart: 0 starts at the clean image; any other number at a random place of the ball, drawn from that number
            and the image alone.
    """

    spelled: ClassVar[str] = "Ball"
    eps: int
    step: Schedule = Schedule(1.0)
    momentum: float = 0.0
    restart: int = 0

    def walk(self, x: Images) -> BallWalk:
        """Start at the clean images."""
        return BallWalk(self, x)


class BallWalk:
    """One batch's position in the ball."""

    def __init__(self, ball: Ball, x: Images) -> None:
        self.ball = ball
        levels = (x.detach() * LEVELS).round()
        self.low, self.high = (levels - ball.eps).clamp_min(0), (levels + ball.eps).clamp_max(LEVELS)
        self.position = self._random_start(levels) if ball.restart else levels
        self.velocity = torch.zeros_like(levels) if ball.momentum else None
        self._shown = levels

    def _random_start(self, levels: Tensor) -> Tensor:
        rows = []
        for row in levels:
            content = row.byte().cpu().numpy().tobytes() + self.ball.restart.to_bytes(8, "big", signed=True)
            generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(content).digest()[:7], "big"))
            rows.append(2 * torch.rand(row.shape, generator=generator, dtype=row.dtype) - 1)
        noise = self.ball.eps * torch.stack(rows).to(levels)
        return torch.minimum(torch.maximum(levels + noise, self.low), self.high)

    def images(self) -> Images:
        """What would be saved, as a leaf."""
        self._shown = (self.position.round() / LEVELS).requires_grad_()
        return self._shown

    def measures(self) -> Mapping[str, PerImage]:
        """Nothing more: the framework measures the change of levels itself."""
        return {}

    def step(self, loss: PerImage, progress: float) -> None:
        """Down the sign of the (accumulated) gradient."""
        direction = torch.autograd.grad(loss.sum(), self._shown)[0]
        if self.velocity is not None:
            size = direction.abs().sum((1, 2, 3), keepdim=True).clamp_min(torch.finfo(direction.dtype).tiny)
            direction = self.velocity.mul_(self.ball.momentum).addcdiv_(direction, size)
        self.position = self.position.sub(direction.sign(), alpha=self.ball.step.at(progress))
        self.position = torch.minimum(torch.maximum(self.position, self.low, out=self.position), self.high)

    def bisect(self, loss: PerImage, keeps: Callable[[Images], Tensor], halvings: int, progress: float) -> None:
        """Down the sign of the gradient, by the largest share of a step that ``keeps`` allows each image."""
        step = self.ball.step.at(progress) * torch.autograd.grad(loss.sum(), self._shown)[0].sign()
        start, share = self.position, torch.zeros(len(step), 1, 1, 1, dtype=step.dtype, device=step.device)
        for halving in range(1, halvings + 1):
            tried = share + 0.5**halving
            kept = keeps((start - tried * step).clamp(self.low, self.high).round() / LEVELS)
            share = torch.where(kept.view(-1, 1, 1, 1), tried, share)
        self.position = (start - share * step).clamp(self.low, self.high)

    def select(self, keep: Tensor) -> None:
        """Keep only some rows."""
        self.position, self.low, self.high = self.position[keep], self.low[keep], self.high[keep]
        if self.velocity is not None:
            self.velocity = self.velocity[keep]


@register("attacks", "pgd")
@dataclass(frozen=True)
class Pgd:
    """Reach the target class; the explanation is left to itself."""

    name: ClassVar[str] = "pgd"
    spelled: ClassVar[str] = "Pgd"
    fools_interpreter: ClassVar[bool] = False
    eps: int
    ball: Ball
    settings: Settings

    @classmethod
    def make(cls, preset: str, against: str | None, eps: int, **overrides: object) -> Pgd:
        """The attack with a preset's settings."""
        ball, settings, _ = options_of(cls.name, None, preset, overrides, Ball)
        return cls(eps, Ball(eps, **ball), Settings(**settings))

    def bound(self, step_passes: float) -> float:
        """F an image at most."""
        return self.settings.bound(3.0)

    def run(self, victim: Victim, x: Images, goal: Goal, seeds: Sequence[int]) -> Found:
        """Search; nothing here is random."""
        return search(Victim(victim.classifier), x, goal, self.ball, self.settings)
