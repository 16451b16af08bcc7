"""Attribution maps: scaling, resizing and the distances between two of them (method, section 5.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats

from underfire.core import IOU_THRESHOLDS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from underfire.core import Maps, PerImage

TOP_SHARE = 0.2
"""Share of a map's pixels that `iou` compares."""
LEVELS = 256
"""Levels that a map is shown in: the colours of `images.inferno`."""
FLAT = 8
"""Roundings that the values of a map may differ by, and it is still the same everywhere."""


def unit_scale(raw: Maps) -> Maps:
    """Scale each map to [0, 1] by its minimum and maximum (method, section 1); a constant map becomes all zeros.

    Args:
        raw: (N, h, w), any range.
    """
    low = raw.amin((1, 2), keepdim=True)
    span = raw.amax((1, 2), keepdim=True) - low
    return (raw - low) / torch.where(span > 0, span, 1.0)  # dividing by a tiny number would make the gradient infinite


def flat(raw: Maps) -> Tensor:
    """Tell which maps (bool (N,)) are the same everywhere, up to rounding: scaled, they would show nothing or noise.

    Args:
        raw: (N, h, w), before scaling.
    """
    raw = raw.flatten(1)
    if not raw.numel():
        return torch.zeros(len(raw), dtype=torch.bool, device=raw.device)
    return raw.amax(1) - raw.amin(1) <= FLAT * torch.finfo(raw.dtype).eps * raw.abs().amax(1)


def resize(maps: Maps, size: tuple[int, int]) -> Maps:
    """Resize maps (N, h, w) to (N, *size), bilinear."""
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def l1(a: Maps, b: Maps) -> PerImage:
    """Compute the mean absolute difference (N,) of maps (N, h, w); in [0, 1]."""
    return (a - b).abs().mean((1, 2))


def l2(a: Maps, b: Maps) -> PerImage:
    """Compute the mean squared difference (N,) of maps (N, h, w): ℓ_int (method, section 2)."""
    return (a - b).square().mean((1, 2))


def apart(a: Maps, wanted: Maps, top: float = 0.0) -> PerImage:
    """Compute `l2`, and ``top`` times how far places have crossed the edge of the wanted map's brightest fifth."""
    return l2(a, wanted) + (top * crossed(a, wanted) if top else 0.0)


def crossed(a: Maps, wanted: Maps, share: float = TOP_SHARE) -> PerImage:
    """Compute the mean square (N,) of how far places of ``a`` lie on the wrong side of the top edge of ``wanted``."""
    flat = wanted.flatten(1)
    k = max(1, round(share * flat.shape[1]))
    edge = flat.topk(k + 1, 1).values[:, -2:].mean(1)[:, None, None]
    below, above = (edge - a).clamp_min(0), (a - edge).clamp_min(0)
    return torch.where(wanted > edge, below, above).square().mean((1, 2))


def top_weights(m: NDArray[np.floating], share: float = TOP_SHARE) -> NDArray[np.float64]:
    """Weight each pixel of a map (h, w): 1 for the top ``k = round(share · h · w)``, else 0.

    Pixels that are tied at the k-th value share the weight that is left, so a flat map has no accidental top.
    """
    flat = np.asarray(m, np.float64).ravel()
    k = max(1, round(share * flat.size))
    edge = np.partition(flat, -k)[-k]
    above, tied = flat > edge, flat == edge
    weights: NDArray[np.float64] = above + tied * (k - above.sum()) / tied.sum()
    return weights.reshape(m.shape)


def iou(a: NDArray[np.floating], b: NDArray[np.floating], share: float = TOP_SHARE) -> float:
    """Compute the IoU, Σ min / Σ max, of the `top_weights` of two maps (h, w)."""
    wa, wb = top_weights(a, share), top_weights(b, share)
    return float(np.minimum(wa, wb).sum() / np.maximum(wa, wb).sum())


def iou_curve(a: NDArray[np.floating], b: NDArray[np.floating]) -> list[float | None]:
    """Compute the IoU of the sets {m ≥ t} of two maps (h, w) at t = 0.1 … 0.9; None where both sets are empty."""
    curve: list[float | None] = []
    for t in IOU_THRESHOLDS:
        union = int(((a >= t) | (b >= t)).sum())
        curve.append(int(((a >= t) & (b >= t)).sum()) / union if union else None)
    return curve


def rank(a: NDArray[np.floating], b: NDArray[np.floating]) -> float | None:
    """Compute Spearman's rank correlation of two maps (h, w), in [-1, 1]; None for a constant map."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(stats.spearmanr(np.ravel(a), np.ravel(b)).statistic)


def rank_shown(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Compute `rank` of two maps (h, w) as they are shown, in 256 levels; 0 where one of them shows one level only.

    Nobody sees the order of what is drawn in one level, and a mask of an interpreter that saturates is mostly that.
    """
    return rank(levels(a), levels(b)) or 0.0


def levels(m: NDArray[np.floating]) -> NDArray[np.float64]:
    """Tell in which of `LEVELS` each point of a map (h, w) is shown."""
    return np.minimum(np.floor(LEVELS * np.asarray(m, np.float64)), LEVELS - 1)
