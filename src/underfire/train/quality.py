"""Quality of a mask: the saliency metric, and regions whose removal shall take the class away.

Sources: Dabkowski & Gal 2017, section 5; method, section 2.8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from underfire.core import Images, Labels, Maps, PerImage
from underfire.train.objective import blurred

SMALLEST_AREA = 0.05
"""Area shares below this count as this much, as in the paper."""


def tight_box(m: Tensor, t: float) -> tuple[float, float, float, float]:
    """Find the tightest box around {m ≥ t} of one map; the whole where nothing reaches t.

    Returns:
        top, left, bottom and right, as shares of the sides.
    """
    inside = (m >= t) if bool((m >= t).any()) else torch.ones_like(m, dtype=torch.bool)
    rows, columns = inside.any(1).nonzero()[:, 0], inside.any(0).nonzero()[:, 0]
    h, w = m.shape
    return float(rows[0]) / h, float(columns[0]) / w, float(rows[-1] + 1) / h, float(columns[-1] + 1) / w


def cropped(x: Images, boxes: Sequence[tuple[float, float, float, float]]) -> Images:
    """Crop each image to its box, and resize the crop to the image's size."""
    size = x.shape[-2:]
    out = torch.empty_like(x)
    for row, (top, left, bottom, right) in enumerate(boxes):
        t, b = round(top * size[0]), max(round(top * size[0]) + 1, round(bottom * size[0]))
        le, r = round(left * size[1]), max(round(left * size[1]) + 1, round(right * size[1]))
        part = x[row : row + 1, :, t:b, le:r]
        out[row : row + 1] = F.interpolate(part, size, mode="bilinear", align_corners=False, antialias=True).clamp(0, 1)
    return out


def saliency_metric(logits: Callable[[Images], Tensor], x: Images, y: Labels, m: Maps, t: float) -> PerImage:
    """Compute log max(a, 0.05) − log p_c(crop), where a is the area share of the tightest box; lower is better."""
    boxes = [tight_box(one, t) for one in m.cpu()]  # a GPU would be waited for several times for each photo
    shares = torch.tensor([(b - a) * (d - c) for a, c, b, d in boxes], device=x.device)
    log_p = logits(cropped(x, boxes)).log_softmax(1).gather(1, y[:, None])[:, 0]
    return shares.clamp_min(SMALLEST_AREA).log() - log_p


def top_region(m: Maps, share: float) -> Maps:
    """Mark the ``share`` of each map's pixels that are highest with 1; ties go by position."""
    k = max(1, round(share * m[0].numel()))
    out = torch.zeros_like(m).flatten(1)
    return out.scatter(1, m.flatten(1).topk(k, 1).indices, 1.0).view_as(m)


def random_block(m: Maps, share: float, seeds: Sequence[int]) -> Maps:
    """Mark a square of that ``share`` of the area with 1, at a position drawn from each map's seed."""
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
    """Make ``n`` maps that have seen no photo, the baseline: a Gaussian in the centre, σ a quarter of the side."""
    rows, columns = (torch.linspace(-2, 2, side) for side in size)
    blob = torch.exp(-(rows[:, None] ** 2 + columns[None, :] ** 2) / 2)
    return blob.expand(n, *size)


def probability_without(logits: Callable[[Images], Tensor], x: Images, y: Labels, region: Maps) -> PerImage:
    """Compute p_c once the region (1 = remove) is blurred away."""
    removed = F.interpolate(region[:, None], x.shape[-2:], mode="nearest")
    z = logits(torch.where(removed > 0, blurred(x), x))
    return z.softmax(1).gather(1, y[:, None])[:, 0]
