"""What a mask is trained for, and what it is worth (Dabkowski & Gal 2017, sections 3 and 5; method, section 2).

    L(m) = λ_tv TV(m) + λ_av AV(m) − log f_c(Φ(x, m)) + λ_d f_c(Φ(x, 1 − m))^0.3      Φ(x, m) = x·m + A·(1 − m)

TV and AV are means over the map, so that they do not depend on its size. A is a blurred copy of x or a flat colour with
noise, drawn for each sample. For a class that the photo does not show only the area counts: its map shall be empty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from underfire.core import Images, Labels, Maps, PerImage
from underfire.images import maps

BLUR = 14
"""The blurred fill keeps 224 / 16 = 14 averages a side: about a Gaussian of σ 10 px, the paper's, at any input size."""
SMALLEST_AREA = 0.05
"""Area shares below this count as this much (method, section 2)."""


@dataclass(frozen=True)
class Weights:
    """λ of each term.

    Args:
        tv: smoothness.
        area: of the true class's mask.
        destroy: of what is left of the class without the mask.
        power: of that probability.
        absent: area of the mask of a class that is not there.
    """

    tv: float = 10.0
    area: float = 8.0
    destroy: float = 5.0
    power: float = 0.3
    absent: float = 4.0


def smoothness(m: Maps) -> PerImage:
    """TV: mean squared difference of neighbours, horizontally plus vertically."""
    return (m[:, :, 1:] - m[:, :, :-1]).square().mean((1, 2)) + (m[:, 1:] - m[:, :-1]).square().mean((1, 2))


def area(m: Maps) -> PerImage:
    """AV: mean of the map."""
    return m.mean((1, 2))


def blurred(x: Images) -> Images:
    """``x`` with everything smaller than about 10 px (of 224) gone."""
    small = F.adaptive_avg_pool2d(x, BLUR)
    return F.interpolate(small, x.shape[-2:], mode="bicubic", align_corners=False).clamp(0, 1)


def flat(x: Images, seeds: Sequence[int]) -> Images:
    """One random colour an image, with noise on it."""
    out = torch.empty_like(x)
    for row, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        colour = torch.rand(x.shape[1], 1, 1, generator=generator)
        strength = 0.2 * torch.rand((), generator=generator)
        out[row] = (colour + strength * torch.randn(x.shape[1:], generator=generator)).clamp(0, 1)
    return out


def fill(x: Images, seeds: Sequence[int]) -> Images:
    """A: for every other seed the blurred photo, for the others a flat colour with noise."""
    noise = torch.tensor([seed % 2 == 0 for seed in seeds], device=x.device)[:, None, None, None]
    return torch.where(noise, flat(x, seeds), blurred(x))


def blend(x: Images, m: Maps, behind: Images) -> Images:
    """Φ(x, m): the photo where ``m`` is 1, ``behind`` where it is 0."""
    u = maps.resize(m, (x.shape[-2], x.shape[-1]))[:, None]
    return x * u + behind * (1 - u)


def objective(
    logits: Callable[[Images], Tensor], x: Images, y: Labels, m: Maps, behind: Images, lam: Weights
) -> dict[str, PerImage]:
    """The weighted terms of the true class's masks, from one batch of kept and destroyed images."""
    z = logits(torch.cat([blend(x, m, behind), blend(x, 1 - m, behind)])).float()
    kept, destroyed = z.chunk(2)
    left = destroyed.softmax(1).gather(1, y[:, None])[:, 0]
    return {
        "smoothness": lam.tv * smoothness(m),
        "area": lam.area * area(m),
        "keep": F.cross_entropy(kept, y, reduction="none"),
        "destroy": lam.destroy * (left + 1e-6) ** lam.power,  # a power below 1 has no slope at 0
    }


# -- what a mask is worth ---------------------------------------------------------------------------------------------


def tight_box(m: Tensor, t: float) -> tuple[float, float, float, float]:
    """The tightest box around {m ≥ t} as shares (top, left, bottom, right) of the side; the whole if nothing is."""
    inside = (m >= t) if bool((m >= t).any()) else torch.ones_like(m, dtype=torch.bool)
    rows, columns = inside.any(1).nonzero()[:, 0], inside.any(0).nonzero()[:, 0]
    h, w = m.shape
    return float(rows[0]) / h, float(columns[0]) / w, float(rows[-1] + 1) / h, float(columns[-1] + 1) / w


def cropped(x: Images, boxes: Sequence[tuple[float, float, float, float]]) -> Images:
    """Each image's box, resized to the whole."""
    size = x.shape[-2:]
    out = torch.empty_like(x)
    for row, (top, left, bottom, right) in enumerate(boxes):
        t, b = round(top * size[0]), max(round(top * size[0]) + 1, round(bottom * size[0]))
        le, r = round(left * size[1]), max(round(left * size[1]) + 1, round(right * size[1]))
        part = x[row : row + 1, :, t:b, le:r]
        out[row : row + 1] = F.interpolate(part, size, mode="bilinear", align_corners=False, antialias=True).clamp(0, 1)
    return out


def saliency_metric(logits: Callable[[Images], Tensor], x: Images, y: Labels, m: Maps, t: float) -> PerImage:
    """The saliency metric: log max(a, 0.05) − log p_c(crop); lower is better (method, section 2)."""
    boxes = [tight_box(one, t) for one in m]
    shares = torch.tensor([(b - a) * (d - c) for a, c, b, d in boxes], device=x.device)
    log_p = logits(cropped(x, boxes)).log_softmax(1).gather(1, y[:, None])[:, 0]
    return shares.clamp_min(SMALLEST_AREA).log() - log_p


def top_region(m: Maps, share: float) -> Maps:
    """1 on the ``share`` of each map's pixels that are highest; ties by place."""
    k = max(1, round(share * m[0].numel()))
    out = torch.zeros_like(m).flatten(1)
    return out.scatter(1, m.flatten(1).topk(k, 1).indices, 1.0).view_as(m)


def random_block(m: Maps, share: float, seeds: Sequence[int]) -> Maps:
    """1 on a square of that ``share`` of the area, at a random place."""
    h, w = m.shape[1:]
    sides = max(1, round(h * share**0.5)), max(1, round(w * share**0.5))
    out = torch.zeros_like(m)
    for row, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        top = int(torch.randint(h - sides[0] + 1, (), generator=generator))
        left = int(torch.randint(w - sides[1] + 1, (), generator=generator))
        out[row, top : top + sides[0], left : left + sides[1]] = 1
    return out


def centre_blob(n: int, size: tuple[int, int]) -> Maps:
    """The baseline that has seen no photo: a Gaussian in the middle, σ a quarter of the side."""
    rows, columns = (torch.linspace(-2, 2, side) for side in size)
    blob = torch.exp(-(rows[:, None] ** 2 + columns[None, :] ** 2) / 2)
    return blob.expand(n, *size)


def probability_without(logits: Callable[[Images], Tensor], x: Images, y: Labels, region: Maps) -> PerImage:
    """p_c once the region (1 = remove) is blurred away."""
    removed = F.interpolate(region[:, None], x.shape[-2:], mode="nearest")
    z = logits(torch.where(removed > 0, blurred(x), x))
    return z.softmax(1).gather(1, y[:, None])[:, 0]
