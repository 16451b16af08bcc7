"""Squeezers (Xu et al. 2018): cheap copies of a picture that keep what a camera saw, and lose what an attack put there.

blur     Gaussian, σ 1 px at an input of 224 px
bits     a colour depth of 5 bits
median   the median of windows of 2 px

What does not change smoothly (rounding) passes its gradient straight through, so that an attacker has one (Athalye et
al. 2018); its values are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import functional as transforms

from underfire.core import Images

SIGMA = 1 / 224
"""σ of the smoothing, as a share of the side; at least half a pixel."""


def smoothed_copy(x: Images) -> Images:
    """Smooth pictures (N, C, H, W)."""
    sigma = max(0.5, SIGMA * min(x.shape[-2:]))
    size = 2 * math.ceil(3 * sigma) + 1
    copy: Images = transforms.gaussian_blur(x, [size, size], [sigma, sigma])
    return copy


def fewer_bits(x: Images, bits: int = 5) -> Images:
    """Round pictures in [0, 1] to 2^bits levels; the gradient is that of no rounding."""
    most = 2**bits - 1
    rounded: Images = x + ((x.detach() * most).round() / most - x.detach())
    return rounded


def median_copy(x: Images, window: int = 2) -> Images:
    """Replace each pixel by the median of the window that begins half a window before it; edges are mirrored."""
    before = (window - 1) // 2
    after = window - 1 - before
    around = F.pad(x, (before, after, before, after), mode="reflect")
    cells = around.unfold(2, window, 1).unfold(3, window, 1).flatten(4)
    ordered: torch.Tensor = cells.sort(-1).values
    middle = cells.shape[-1] // 2
    if cells.shape[-1] % 2:
        return ordered[..., middle]
    return (ordered[..., middle - 1] + ordered[..., middle]) / 2


SQUEEZERS: Mapping[str, Callable[[Images], Images]] = {
    "blur": smoothed_copy,
    "bits": fewer_bits,
    "median": median_copy,
}
