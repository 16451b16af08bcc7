"""MASK's blend: a small mask decides, pixel by pixel, between the image and its blurred copy (method, section 2.7).

    φ(x; m) = u · x + (1 − u) · B(x) ,   u = G₂ ∗ up(m) ,   B = G₃.₅ ∗ x

Up-sampling and Gaussians are linear and separable, so each is one matrix for each side: u = U m Uᵀ, B(x) = G x Gᵀ. So
the blend, its gradient and its second derivatives are a few small products.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from underfire.core import Images, Maps

SIDE = 224
"""Side of the input that the kernel sizes below are for, px; for other inputs they scale with the shorter side."""
MASK_KERNEL, MASK_SIGMA = 11, 2.0
"""The Gaussian of the mask, px."""
BLUR_KERNEL, BLUR_SIGMA = 21, 3.5
"""The Gaussian of the blurred copy, px."""


def odd(size: float) -> int:
    """Round to the nearest odd number, ties upwards; at least 1."""
    return 2 * int(size / 2) + 1


def grid(size: int, x: Images) -> tuple[int, int]:
    """Give height and width of the masks of images: ``size`` on the shorter side, and cells as square as can be."""
    short = min(x.shape[-2:])
    h, w = (round(size * side / short) for side in x.shape[-2:])
    return h, w


@lru_cache(maxsize=16)
def gaussian_matrix(n: int, kernel: int, sigma: float, side: int | None = None) -> Tensor:
    """Make the matrix (n, n), float64, of a Gaussian along a line of ``n`` pixels.

    The line is mirrored at its ends, without repeating the last pixel.

    Args:
        n: length of the line, px.
        kernel: width of the Gaussian, px at 224 px.
        sigma: its σ, px at 224 px.
        side: shorter side of the picture, px; by default ``n``.
    """
    side = side or n
    width, sigma = odd(kernel * side / SIDE), sigma * side / SIDE
    offsets = torch.arange(width, dtype=torch.float64) - width // 2
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    line = torch.eye(n, dtype=torch.float64)[:, None]
    padded = F.pad(line, (width // 2, width // 2), mode="reflect") if width > 1 else line
    return F.conv1d(padded, (weights / weights.sum()).view(1, 1, -1))[:, 0].T.contiguous()


@lru_cache(maxsize=16)
def mask_matrix(n: int, size: int, side: int | None = None) -> Tensor:
    """Make the matrix (n, size), float64, of bilinear up-sampling from ``size`` to ``n`` pixels, then the Gaussian."""
    up = F.interpolate(torch.eye(size, dtype=torch.float64)[:, None], n, mode="linear", align_corners=False)[:, 0].T
    return (gaussian_matrix(n, MASK_KERNEL, MASK_SIGMA, side) @ up).contiguous()


def blur(x: Images) -> Images:
    """Blur images: B(x), which is what deleted regions show."""
    with torch.autocast(x.device.type, enabled=False):  # bfloat16 would be off by a level
        side = min(x.shape[2:])
        rows, columns = (gaussian_matrix(n, BLUR_KERNEL, BLUR_SIGMA, side).to(x) for n in x.shape[2:])
        return rows @ x @ columns.T


class Blend:
    """The blend φ(x; ·) of one batch of images.

    Args:
        x: images (N, 3, H, W); with a graph, where the blend is differentiated by them too.
        size: side of the mask, px; the shorter one where the images are not square.
    """

    def __init__(self, x: Images, size: int) -> None:
        self.blurred = blur(x)
        self.detail = x - self.blurred
        side, sizes = min(x.shape[2:]), zip(x.shape[2:], grid(size, x), strict=True)
        self.rows, self.columns = (mask_matrix(n, cells, side).to(x) for n, cells in sizes)

    def weights(self, m: Maps) -> Tensor:
        """Compute the u (N, 1, H, W) of masks m (N, h, w)."""
        with torch.autocast(m.device.type, enabled=False):
            return (self.rows @ m @ self.columns.T)[:, None]

    def images(self, m: Maps) -> Images:
        """Compute φ(x; m), where 1 keeps and 0 deletes.

        Args:
            m: masks (N, h, w), or (S·N, h, w) for S rounds of the images.
        """
        rounds = (len(m) // len(self.detail), 1, 1, 1)
        return self.blurred.repeat(rounds) + self.weights(m) * self.detail.repeat(rounds)
