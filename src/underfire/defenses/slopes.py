"""The gradient of a score that an attacker follows: is it true, and what if there is none?

A defense must not only hide its gradient (Athalye et al. 2018). A score whose slope is absent, not finite or far too
small for what the score does along it is refused where it is made of maps: give these a differentiable surrogate. Where
it is a function of the picture alone, the attacker estimates the slope by asking (Ilyas et al. 2018):

    s(x + δ) ≈ s(x) + ⟨ĝ, δ⟩        ĝ = mean over ±u of  (s(x + σu) − s(x − σu)) u / 2σ,  u smooth noise
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from underfire.core import Images, PerImage

STEP, FALSE = 1e-4, 0.1
"""Length of the step that tests a gradient, and the factor by which the gradient may be too small."""
NO_SLOPE = 0.5
"""Share of images without a gradient of the score at which the attack is refused, or the slope estimated."""
QUESTIONS = 8
"""Pairs of questions behind an estimated slope."""
SIGMA = 2 / 255
"""σ of the questions: two levels, well above the rounding of files."""
COARSE = 28
"""Side of the grid that the noise u is smooth over: random pixels would cancel each other out."""


def slope_of(of: PerImage, x: Images) -> Tensor:
    """Compute the gradient (N, 3, H, W) of scores; 0 where they have none."""
    found = torch.autograd.grad(of.sum(), x, retain_graph=True, allow_unused=True)[0] if of.requires_grad else None
    return torch.zeros_like(x) if found is None else found


def dead(slope: Tensor) -> Tensor:
    """Tell of which images (N,) the slope is nothing or no number."""
    return (slope == 0).flatten(1).all(1) | ~slope.isfinite().flatten(1).all(1)


def false(score: PerImage, slope: Tensor, again: Callable[[Images], PerImage], x: Images) -> Tensor:
    """Tell of which images (N,) the slope is far too small for what the score does along it."""
    after = (x + STEP * slope.sign()).detach().requires_grad_()
    change = (again(after) - score).detach().abs()
    told = STEP * slope.abs().sum((1, 2, 3))
    return (told < FALSE * change) | ~change.isfinite()


def estimated(of: Callable[[Images], PerImage], x: Images, seed: int) -> PerImage:
    """Give scores (N,) of ``x`` with an estimated slope.

    Args:
        of: pictures -> scores, without a gradient.
        x: (N, 3, H, W).
        seed: of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    still, slope = x.detach(), torch.zeros_like(x)
    with torch.no_grad():
        value = of(still)
        for _ in range(QUESTIONS):
            u = torch.randn(x.shape[1], COARSE, COARSE, generator=generator).to(x)[None]
            u = F.interpolate(u, x.shape[-2:], mode="bilinear", align_corners=False)
            change = of((still + SIGMA * u).clamp(0, 1)) - of((still - SIGMA * u).clamp(0, 1))
            slope += change.to(x)[:, None, None, None] * u / (2 * SIGMA * QUESTIONS)
    return value.to(x) + (slope * (x - still)).sum((1, 2, 3))
