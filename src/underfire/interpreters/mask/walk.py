"""MASK's optimisation, step by step (method, section 2.7): the price of a mask, Adam, and a batch's walk from ½."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from underfire.core import LEVELS, Classifier, Images, Labels, Maps, PerImage, UnderfireError
from underfire.heads import head_of
from underfire.interpreters.mask.blend import Blend, blur, grid

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
"""Adam's constants (Kingma & Ba 2015)."""
START = 0.5
"""Value of the mask at the start."""
FLAT = 1e-6
"""Largest change by blurring of an image in which a mask has nothing to delete."""


@dataclass(frozen=True)
class Objective:
    """The price of a mask besides the class score.

    Args:
        l1: weight of Σ|1 − m|, the price of deleting.
        tv: weight of the total variation with exponent 3.
    """

    l1: float = 1e-4
    tv: float = 1e-2

    def price(self, m: Maps) -> PerImage:
        """Compute the price (N,) of masks (N, h, w)."""
        across, down = m.diff(dim=2).abs(), m.diff(dim=1).abs()
        ragged = (across**3).sum((1, 2)) + (down**3).sum((1, 2))
        return self.l1 * (1 - m).abs().sum((1, 2)) + self.tv * ragged

    def slope(self, m: Maps) -> Maps:
        """Compute the derivative (N, h, w) of the price, with a graph; that of |1 − m| is 0 at m = 1, as in torch."""
        across, down = m.diff(dim=2), m.diff(dim=1)
        across, down = 3 * across * across.abs(), 3 * down * down.abs()
        ragged = F.pad(across, (1, 0)) - F.pad(across, (0, 1)) + F.pad(down, (0, 0, 1, 0)) - F.pad(down, (0, 0, 0, 1))
        return self.tv * ragged - self.l1 * (1 - m).sign()


class Walk:
    """The walk of a batch of masks by Adam, each image for itself.

    Args:
        m: masks (N, h, w) at the start.
        lr: Adam's step size.
    """

    def __init__(self, m: Maps, lr: float) -> None:
        self.m, self.lr, self.taken = m, lr, 0
        self.first, self.second = torch.zeros_like(m), torch.zeros_like(m)

    def step(self, gradient: Maps) -> None:
        """Move: m ← clip(m − lr · v̂₁ / (√v̂₂ + 1e-8), 0, 1) (Kingma & Ba 2015).

        Where the gradient (N, h, w) has a graph, v₂ is held constant: it only sets the size of each pixel's step, and
        its root has no slope at 0.
        """
        self.taken += 1
        self.first = BETA1 * self.first + (1 - BETA1) * gradient
        self.second = BETA2 * self.second + (1 - BETA2) * gradient.detach().square()
        mean, power = self.first / (1 - BETA1**self.taken), self.second / (1 - BETA2**self.taken)
        self.m = (self.m - self.lr * mean / (power.sqrt() + EPS)).clamp(0, 1)

    def select(self, keep: Tensor) -> Walk:
        """Return the walk of the rows ``keep``."""
        return self._of(self.m[keep], self.first[keep], self.second[keep])

    def detached(self) -> Walk:
        """Return the same walk without a graph."""
        return self._of(self.m.detach(), self.first.detach(), self.second.detach())

    def _of(self, m: Maps, first: Maps, second: Maps) -> Walk:
        walk = Walk(m, self.lr)
        walk.first, walk.second, walk.taken = first, second, self.taken
        return walk


def jitters(x: Images, jitter: int, steps: int, seed: int) -> Tensor:
    """Draw offsets (steps, N, 2) in 0 … jitter − 1 px, for each image from (seed, its own 8-bit pixels) alone."""
    drawn = []
    for one in (x.detach() * LEVELS).round().to(torch.uint8).cpu():
        digest = hashlib.sha256(f"{seed}/mask/".encode() + one.contiguous().numpy().tobytes()).digest()
        drawn.append(np.random.default_rng(int.from_bytes(digest[:8], "big")).integers(jitter, size=(steps, 2)))
    return torch.from_numpy(np.stack(drawn, 1))


def shifted(x: Images, by: Tensor, jitter: int) -> Images:
    """Crop each image at its own offset ``by`` (N, 2), px; its edges are mirrored by up to ``jitter`` − 1 px."""
    h, w = x.shape[2:]
    wide = F.pad(x, (0, jitter - 1, 0, jitter - 1), mode="reflect")
    return torch.stack([one[:, i : i + h, j : j + w] for one, (i, j) in zip(wide, by.tolist(), strict=True)])


def flat_images(x: Images) -> Tensor:
    """Tell which images (bool (N,)) do not change by blurring."""
    x = x.detach().cpu().double()  # the rounding of a blur in float32 grows with the image
    return (x - blur(x)).abs().flatten(1).le(FLAT).all(1)


def at_least(what: str, value: object, least: float, whole: bool = False) -> None:
    """Check a setting of MASK.

    Args:
        what: its name.
        value: the user's value.
        least: the smallest value that is allowed.
        whole: whether it must be a whole number.

    Raises:
        UnderfireError: it is no finite number, too small, or not whole.
    """
    number = isinstance(value, int) or (isinstance(value, float) and not whole and math.isfinite(value))
    if not number or isinstance(value, bool) or value < least:  # type: ignore[operator]
        kind = "whole number" if whole else "number"
        raise UnderfireError(f"mask {what} = {value!r}: it must be a {kind}, {least:g} or more.")


class Visit(NamedTuple):
    """A mask on the walk (N, h, w), the class score p_c of its blend (N,), and its derivative by the mask (N, h, w)."""

    m: Maps
    score: PerImage
    gradient: Maps


@dataclass(frozen=True)
class Process:
    """The settings of MASK's optimisation, as in `underfire.interpreters.mask.Mask`."""

    classifier: Classifier
    size: int
    steps: int
    lr: float
    objective: Objective
    jitter: int
    seed: int

    def start(self, x: Images) -> Walk:
        """Start a walk, with ½ everywhere in the mask."""
        return Walk(torch.full((len(x), *grid(self.size, x)), START, dtype=x.dtype, device=x.device), self.lr)

    def score(self, x: Images, y: Labels) -> PerImage:
        """Compute p_c (N,) of images, as the classifier's head has it."""
        z = self.classifier.logits(x)
        return head_of(self.classifier).probabilities(z).gather(1, y[:, None])[:, 0]

    def visits(self, x: Images, y: Labels, walk: Walk, steps: int | None = None) -> Iterator[Visit]:
        """Take steps of a walk, and yield each mask before the step from it.

        Args:
            x: images (N, 3, H, W).
            y: classes (N,).
            walk: the walk, which moves.
            steps: number of steps; by default those of the interpreter.
        """
        steps = self.steps if steps is None else steps
        blend = Blend(x.detach(), self.size)
        offsets = jitters(x, self.jitter, steps, self.seed) if self.jitter > 1 else None
        for k in range(steps):
            with torch.enable_grad():
                m = walk.m.detach().requires_grad_()
                phi = blend.images(m)
                phi = phi if offsets is None else shifted(phi, offsets[k], self.jitter)
                score = self.score(phi, y)
                gradient = torch.autograd.grad(score.sum(), m)[0]
            yield Visit(walk.m, score.detach(), gradient)
            walk.step(gradient + self.objective.slope(walk.m))
