"""MASK, pixel by pixel and by torch's own optimiser."""

from __future__ import annotations

import math
from functools import cache
from itertools import product

import torch
from torch import Tensor

from support.replicas import drawn, normal, replicates, uniform
from support.replicas.maps import Picture, bilinear
from support.toys import CLASSES, SIDE, pictures, small
from support.toys import SMALL as SIZE
from underfire.interpreters.mask.blend import Blend, blur, gaussian_matrix
from underfire.interpreters.mask.mask import Mask
from underfire.interpreters.mask.walk import Objective, shifted


def mirrored(i: int, n: int) -> int:
    """Reflection that does not repeat the edge."""
    i = -i if i < 0 else i
    return 2 * (n - 1) - i if i >= n else i


def gaussian(picture: Picture, kernel: int, sigma: float) -> Picture:
    """A two-dimensional Gaussian, pixel by pixel."""
    n, reach = len(picture), range(-(kernel // 2), kernel // 2 + 1)
    weight = {(a, b): math.exp(-(a * a + b * b) / (2 * sigma**2)) for a, b in product(reach, reach)}
    total, out = sum(weight.values()), [[0.0] * n for _ in range(n)]
    for i, j in product(range(n), range(n)):
        around = (w * picture[mirrored(i + a, n)][mirrored(j + b, n)] for (a, b), w in weight.items())
        out[i][j] = sum(around) / total
    return out


@replicates(blur, drawn(lambda g: (uniform(g, 1, 2, SIZE, SIZE),)), examples=2)
def blurred(x: Tensor) -> list[Picture]:
    return [gaussian(channel.tolist(), 5, 3.5 * SIZE / 224) for one in x for channel in one]


@replicates(
    Blend.images,
    drawn(lambda g: (Blend(uniform(g, 2, 1, SIZE, SIZE), SIDE), uniform(g, 2, SIDE, SIDE))),
    examples=2,
)
def blended(blend: Blend, m: Tensor) -> Tensor:
    """The mask up-sampled and smoothed; then that share of the image's detail on top of its blur."""
    u = [gaussian(bilinear(one.tolist(), (SIZE, SIZE)), 3, 2.0 * SIZE / 224) for one in m]
    return blend.blurred + torch.tensor(u, dtype=torch.float64)[:, None] * blend.detail


@replicates(Objective.price, drawn(lambda g: (Objective(), uniform(g, 3, SIDE, SIDE))))
def price(weights: Objective, m: Tensor) -> list[float]:
    """The authors' weights: 1e-4 for what is deleted, 1e-2 for the cubes of neighbours' differences."""
    sums = []
    for one in m.tolist():
        n = len(one)
        ragged = sum(abs(one[i + 1][j] - one[i][j]) ** 3 for i in range(n - 1) for j in range(n))
        ragged += sum(abs(one[i][j + 1] - one[i][j]) ** 3 for i in range(n) for j in range(n - 1))
        sums.append(1e-4 * sum(abs(1 - v) for line in one for v in line) + 1e-2 * ragged)
    return sums


@replicates(Objective.slope, drawn(lambda g: (Objective(), uniform(g, 1, 4, 4))), atol=1e-8)
def slope(weights: Objective, m: Tensor) -> Tensor:
    """Finite differences of the price."""
    out, step = torch.zeros_like(m), 1e-6
    for i, j in product(range(4), range(4)):
        up, down = m.clone(), m.clone()
        up[0, i, j] += step
        down[0, i, j] -= step
        out[0, i, j] = (weights.price(up) - weights.price(down)) / (2 * step)
    return out


@replicates(shifted, drawn(lambda g: (normal(g, 2, 3, 6, 6), torch.randint(4, (2, 2), generator=g), 4)), examples=5)
def cropped(x: Tensor, by: Tensor, jitter: int) -> Tensor:
    """Pixels of the mirrored image."""
    out = torch.empty_like(x)
    for n, i, j in product(range(len(x)), range(6), range(6)):
        out[n, :, i, j] = x[n, :, mirrored(i + int(by[n, 0]), 6), mirrored(j + int(by[n, 1]), 6)]
    return out


@cache
def mask() -> Mask:
    return Mask(small(), size=SIDE, steps=60)


def asked(g: torch.Generator) -> tuple[Mask, Tensor, Tensor]:
    seed = int(torch.randint(1000, (), generator=g))
    return mask(), pictures(2, seed, SIZE), torch.randint(CLASSES, (2,), generator=g)


@replicates(Mask.explain, drawn(asked), atol=1e-6, examples=2)
def explained(one: Mask, x: Tensor, y: Tensor) -> list[Tensor]:
    """Each image by itself: autograd through the whole objective, and torch's optimiser."""
    return [1 - _descended(one, image[None], int(c)) for image, c in zip(x, y, strict=True)]


def _descended(one: Mask, x: Tensor, c: int) -> Tensor:
    m = torch.full((1, SIDE, SIDE), 0.5, dtype=torch.float64, requires_grad=True)
    adam, g = torch.optim.Adam([m], lr=0.1), gaussian_matrix(SIZE, 11, 2.0)
    for _ in range(60):
        u = torch.nn.functional.interpolate(m[:, None], SIZE, mode="bilinear", align_corners=False)
        u = g @ u @ g.T
        p = one.classifier.logits(u * x + (1 - u) * blur(x)).softmax(1)[0, c]
        adam.zero_grad()
        (p + Objective().price(m)[0]).backward()  # type: ignore[no-untyped-call]
        adam.step()
        with torch.no_grad():
            m.clamp_(0, 1)
    return m.detach()[0]
