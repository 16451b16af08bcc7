"""MASK: meaningful perturbation (Fong and Vedaldi 2017), the paper's perturbation-guided interpreter.

    m*  = argmin  p_c(φ(x; m)) + 1e-4 Σ|1 − m| + 1e-2 Σ(|∂_h m|³ + |∂_v m|³)   s.t.  0 ≤ m ≤ 1
    map = 1 − m*                                             high where deleting hurts the class

m is a 28×28 mask, φ blends the image with its blurred self (`mask_blend`). Adam from m = ½, 300 steps, clamped after
each: the map is what this walk reaches, not the exact minimum.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from underfire.core import (
    LEVELS,
    Classifier,
    ImageErrors,
    Images,
    Labels,
    Maps,
    PerImage,
    UnderfireError,
)
from underfire.interpreters.mask_blend import Blend, blur
from underfire.registry import register

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
START = 0.5
FLAT = 1e-6
"""An image that its blurred self differs from by less, everywhere, has nothing that a mask could delete."""


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
        """Price of each mask (N, h, w)."""
        across, down = m.diff(dim=2).abs(), m.diff(dim=1).abs()
        ragged = (across**3).sum((1, 2)) + (down**3).sum((1, 2))
        return self.l1 * (1 - m).abs().sum((1, 2)) + self.tv * ragged

    def slope(self, m: Maps) -> Maps:
        """Its derivative by the mask; 0 for |1 − m| at m = 1, as torch has it."""
        with torch.enable_grad():
            m = m.detach().requires_grad_()
            return torch.autograd.grad(self.price(m).sum(), m)[0]


class Walk:
    """Adam on a batch of masks, every image for itself: what the interpreter does, step by step.

    Args:
        m: where it starts, (N, h, w).
        lr: Adam's step.
    """

    def __init__(self, m: Maps, lr: float) -> None:
        self.m, self.lr, self.taken = m, lr, 0
        self.first, self.second = torch.zeros_like(m), torch.zeros_like(m)

    def step(self, gradient: Maps) -> None:
        """M ← clip(m − lr · v̂₁ / (√v̂₂ + 1e-8), 0, 1) (Kingma and Ba 2015)."""
        self.taken += 1
        self.first = BETA1 * self.first + (1 - BETA1) * gradient
        self.second = BETA2 * self.second + (1 - BETA2) * gradient.square()
        mean, power = self.first / (1 - BETA1**self.taken), self.second / (1 - BETA2**self.taken)
        self.m = (self.m - self.lr * mean / (power.sqrt() + EPS)).clamp(0, 1)


def jitters(x: Images, jitter: int, steps: int, seed: int) -> Tensor:
    """(steps, N, 2) offsets in 0 … jitter − 1, drawn for each image from (seed, its own 8-bit pixels) alone."""
    drawn = []
    for one in (x.detach() * LEVELS).round().to(torch.uint8).cpu():
        digest = hashlib.sha256(f"{seed}/mask/".encode() + one.contiguous().numpy().tobytes()).digest()
        drawn.append(np.random.default_rng(int.from_bytes(digest[:8], "big")).integers(jitter, size=(steps, 2)))
    return torch.from_numpy(np.stack(drawn, 1))


def shifted(x: Images, by: Tensor, jitter: int) -> Images:
    """Each image cropped at its own offset ``by`` (N, 2), its edges mirrored by up to ``jitter`` − 1 px."""
    h, w = x.shape[2:]
    wide = F.pad(x, (0, jitter - 1, 0, jitter - 1), mode="reflect")
    return torch.stack([one[:, i : i + h, j : j + w] for one, (i, j) in zip(wide, by.tolist(), strict=True)])


def flat_images(x: Images) -> Tensor:
    """Which images (bool (N,)) blurring leaves as they are."""
    return ~(x - blur(x)).abs().flatten(1).gt(FLAT).any(1)


def class_score(z: Tensor, y: Labels) -> PerImage:
    """p_c of logits (N, K)."""
    return z.softmax(1).gather(1, y[:, None])[:, 0]


class Visit(NamedTuple):
    """One mask on the walk: the mask, the class score of its blend, and that score's derivative by the mask."""

    m: Maps
    score: PerImage
    gradient: Maps


@register("interpreters", "mask")
class Mask:
    """The mask that deletes least and hurts the class most, shown as 1 − m; 28×28.

    Args:
        classifier: any that is differentiable.
        size: side of the mask and map, px.
        steps: of Adam.
        lr: of Adam, in units of the mask.
        l1: weight of Σ|1 − m|.
        tv: weight of the total variation.
        jitter: 0, or the blended image is cropped at a random place 0 … jitter − 1 px off before each step; the
            authors' own setting is 4.
        seed: of the jitter, together with the image.
    """

    name = "mask"
    step_passes = 20.0

    def __init__(
        self,
        classifier: Classifier,
        size: int = 28,
        steps: int = 300,
        lr: float = 0.1,
        l1: float = 1e-4,
        tv: float = 1e-2,
        jitter: int = 0,
        seed: int = 0,
    ) -> None:
        for what, value, least in (("size", size, 1), ("steps", steps, 1), ("jitter", jitter, 0)):
            if not isinstance(value, int) or value < least:
                raise UnderfireError(f"mask {what} = {value}: it must be a whole number, {least} or more.")
        self.classifier, self.size, self.steps, self.lr = classifier, size, steps, lr
        self.objective, self.jitter, self.seed = Objective(l1, tv), jitter, seed
        self.map_passes = 3.0 * steps

    def explain(self, x: Images, y: Labels) -> Maps:
        """Maps (N, size, size) in [0, 1] of ``x`` for classes ``y``.

        An image whose class score is near 0 whatever is deleted keeps everything: its map is 0.

        Raises:
            ImageErrors: for an image that blurring does not change, and where scores are not finite.
        """
        self._refuse(
            flat_images(x), "blurring changes nothing in this image, so there is nothing that MASK could delete."
        )
        walk = self.start(x)
        for _ in self.visits(x, y, walk):
            pass
        self._refuse(~walk.m.isfinite().flatten(1).all(1), "its scores are not finite while MASK deletes parts of it.")
        return 1 - walk.m

    def start(self, x: Images) -> Walk:
        """A walk of this interpreter's from ½ everywhere."""
        return Walk(torch.full((len(x), self.size, self.size), START, dtype=x.dtype, device=x.device), self.lr)

    def visits(self, x: Images, y: Labels, walk: Walk, steps: int | None = None) -> Iterator[Visit]:
        """Take ``steps`` (all of them where not given) steps of ``walk``; yields each mask before it is left."""
        steps = self.steps if steps is None else steps
        blend = Blend(x.detach(), self.size)
        offsets = jitters(x, self.jitter, steps, self.seed) if self.jitter > 1 else None
        for k in range(steps):
            with torch.enable_grad():
                m = walk.m.detach().requires_grad_()
                phi = blend.images(m)
                phi = phi if offsets is None else shifted(phi, offsets[k], self.jitter)
                score = class_score(self.classifier.logits(phi), y)
                gradient = torch.autograd.grad(score.sum(), m)[0]
            yield Visit(walk.m, score.detach(), gradient)
            walk.step(gradient + self.objective.slope(walk.m))

    @staticmethod
    def _refuse(rows: Tensor, reason: str) -> None:
        if bool(rows.any()):
            raise ImageErrors(dict.fromkeys(rows.nonzero()[:, 0].tolist(), reason))
