"""The flow field, pixel by pixel."""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor

from support.replicas import drawn, replicates, uniform
from underfire.attacks.search import flow


def field(g: torch.Generator, n: int, size: int) -> Tensor:
    """Up to 2 px in each direction."""
    return 4 * uniform(g, n, 2, size, size) - 2


@replicates(flow.warp, drawn(lambda g: (uniform(g, 2, 3, 7, 7), field(g, 2, 7))), atol=1e-12, examples=5)
def warp(x: Tensor, f: Tensor) -> Tensor:
    """Bilinear; the border goes on outside."""
    out = torch.empty_like(x)
    n, _, height, width = x.shape
    for i, r, c in product(range(n), range(height), range(width)):
        right = min(max(c + float(f[i, 0, r, c]), 0), width - 1)
        down = min(max(r + float(f[i, 1, r, c]), 0), height - 1)
        r0, c0 = math.floor(down), math.floor(right)
        r1, c1 = min(r0 + 1, height - 1), min(c0 + 1, width - 1)
        a, b = down - r0, right - c0
        top = (1 - b) * x[i, :, r0, c0] + b * x[i, :, r0, c1]
        bottom = (1 - b) * x[i, :, r1, c0] + b * x[i, :, r1, c1]
        out[i, :, r, c] = (1 - a) * top + a * bottom
    return out


@replicates(flow.roughness, drawn(lambda g: (field(g, 2, 4),)), atol=1e-6, examples=5)
def roughness(f: Tensor) -> list[float]:
    """Over the four direct neighbours of each pixel."""
    totals, (height, width) = [], f.shape[-2:]
    for one in f:
        total = 0.0
        for r, c, (down, right) in product(range(height), range(width), ((0, 1), (1, 0), (0, -1), (-1, 0))):
            if 0 <= r + down < height and 0 <= c + right < width:
                total += float((one[:, r, c] - one[:, r + down, c + right]).norm())
        totals.append(total / (height * width))
    return totals


@replicates(flow.diagonal_roughness, drawn(lambda g: (field(g, 2, 4),)), atol=1e-6, examples=5)
def diagonal_roughness(f: Tensor) -> list[float]:
    """Over the four diagonal neighbours of each pixel, the field's border going on outside."""
    totals, (height, width) = [], f.shape[-2:]
    for one in f:
        total = 0.0
        for r, c, (down, right) in product(range(height), range(width), ((1, 1), (1, -1), (-1, 1), (-1, -1))):
            near = one[:, min(max(r + down, 0), height - 1), min(max(c + right, 0), width - 1)]
            total += math.sqrt(float((one[:, r, c] - near).square().sum()) + 1e-8)  # so the authors' code
        totals.append(total / (height * width))
    return totals
