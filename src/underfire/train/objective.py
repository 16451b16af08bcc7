"""The objective of RTS: what a mask is trained for (Dabkowski & Gal 2017, section 3; method, section 2.8).

    L(m) = λ_tv TV(m) + λ_av AV(m) − log f_c(Φ(x, m)) + λ_d f_c(Φ(x, 1 − m))^0.3      Φ(x, m) = x·m + A·(1 − m)

TV and AV are means over the map, so that they do not depend on its size. A is a blurred copy of x or a flat colour with
noise, drawn for each sample. For a class that the photo does not show only the area counts: its mask shall be empty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from underfire.core import Images, Labels, Maps, PerImage
from underfire.images.maps import resize

BLUR = 14
"""The blurred fill keeps 224 / 16 = 14 averages a side: about a Gaussian of σ 10 px, the paper's, at any input size."""


@dataclass(frozen=True)
class ObjectiveWeights:
    """Weights λ of the objective's terms.

    Args:
        tv: of the smoothness.
        area: of the area of the true class's mask.
        destroy: of the class's probability once its mask is removed.
        power: that this probability is raised to; no weight.
        absent: of the area of the mask of a class that is not there.
    """

    tv: float = 10.0
    area: float = 8.0
    destroy: float = 5.0
    power: float = 0.3
    absent: float = 4.0


def smoothness(m: Maps) -> PerImage:
    """Compute TV: the mean squared difference of neighbours, horizontally plus vertically."""
    return (m[:, :, 1:] - m[:, :, :-1]).square().mean((1, 2)) + (m[:, 1:] - m[:, :-1]).square().mean((1, 2))


def area(m: Maps) -> PerImage:
    """Compute AV: the mean of each map, in [0, 1]."""
    return m.mean((1, 2))


def blurred(x: Images) -> Images:
    """Blur away everything smaller than about 10 px (of 224)."""
    small = F.adaptive_avg_pool2d(x, BLUR)
    return F.interpolate(small, x.shape[-2:], mode="bicubic", align_corners=False).clamp(0, 1)


def flat(x: Images, seeds: Sequence[int]) -> Images:
    """Paint each image in one random colour with noise on it, both drawn from its seed."""
    out = torch.empty_like(x)
    for row, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        colour = torch.rand(x.shape[1], 1, 1, generator=generator)
        strength = 0.2 * torch.rand((), generator=generator)
        out[row] = (colour + strength * torch.randn(x.shape[1:], generator=generator)).clamp(0, 1)
    return out


def fill(x: Images, seeds: Sequence[int]) -> Images:
    """Make A: the blurred image where the seed is odd, a flat colour with noise where it is even."""
    noise = torch.tensor([seed % 2 == 0 for seed in seeds], device=x.device)[:, None, None, None]
    return torch.where(noise, flat(x, seeds), blurred(x))


def blend(x: Images, m: Maps, behind: Images) -> Images:
    """Compute Φ(x, m): the image where ``m`` is 1, ``behind`` where it is 0."""
    u = resize(m, (x.shape[-2], x.shape[-1]))[:, None]
    return x * u + behind * (1 - u)


def objective(
    logits: Callable[[Images], Tensor], x: Images, y: Labels, m: Maps, behind: Images, lam: ObjectiveWeights
) -> dict[str, PerImage]:
    """Compute the weighted terms of the true classes' masks, from one pass over kept and destroyed images.

    Args:
        logits: the classifier.
        x: images (N, 3, H, W) in [0, 1].
        y: their classes.
        m: masks (N, h, w) in [0, 1].
        behind: A.
        lam: λ.

    Returns:
        `smoothness`, `area`, `keep` and `destroy`, (N,) each; what is minimised is their sum.
    """
    z = logits(torch.cat([blend(x, m, behind), blend(x, 1 - m, behind)])).float()
    kept, destroyed = z.chunk(2)
    left = destroyed.softmax(1).gather(1, y[:, None])[:, 0]
    return {
        "smoothness": lam.tv * smoothness(m),
        "area": lam.area * area(m),
        "keep": F.cross_entropy(kept, y, reduction="none"),
        "destroy": lam.destroy * (left + 1e-6) ** lam.power,  # a power below 1 has no slope at 0
    }
