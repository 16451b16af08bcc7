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
FLAT = 8
"""Roundings that the values of a map may differ by, and it is still the same everywhere."""


def unit_scale(raw: Maps) -> Maps:
    """Min-max scale each map to [0, 1]; a constant map becomes all zeros.

    Args:
        raw: (N, h, w), any range.
    """
    low = raw.amin((1, 2), keepdim=True)
    span = raw.amax((1, 2), keepdim=True) - low
    return (raw - low) / torch.where(span > 0, span, 1.0)  # dividing by a tiny number would make the gradient infinite


def flat(raw: Maps) -> Tensor:
    """Which maps (bool (N,)) are the same everywhere, up to rounding: scaled, they would show nothing or noise.

    Args:
        raw: (N, h, w), before scaling.
    """
    raw = raw.flatten(1)
    if not raw.numel():
        return torch.zeros(len(raw), dtype=torch.bool, device=raw.device)
    return raw.amax(1) - raw.amin(1) <= FLAT * torch.finfo(raw.dtype).eps * raw.abs().amax(1)


def resize(maps: Maps, size: tuple[int, int]) -> Maps:
    """Bilinear resize of (N, h, w) to (N, *size)."""
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def l1(a: Maps, b: Maps) -> PerImage:
    """Mean absolute difference per image, in [0, 1]."""
    return (a - b).abs().mean((1, 2))


def l2(a: Maps, b: Maps) -> PerImage:
    """Mean squared difference per image: the paper's ℓ_int."""
    return (a - b).square().mean((1, 2))


def top_weights(m: NDArray[np.floating], share: float = TOP_SHARE) -> NDArray[np.float64]:
    """Membership in [0, 1] of each pixel in the top ``k = round(share · h · w)`` of one map.

    Pixels tied at the k-th value share the remaining places equally, so that a flat map has no accidental top.
    """
    flat = np.asarray(m, np.float64).ravel()
    k = max(1, round(share * flat.size))
    edge = np.partition(flat, -k)[-k]
    above, tied = flat > edge, flat == edge
    weights: NDArray[np.float64] = above + tied * (k - above.sum()) / tied.sum()
    return weights.reshape(m.shape)


def iou(a: NDArray[np.floating], b: NDArray[np.floating], share: float = TOP_SHARE) -> float:
    """IoU = Σmin / Σmax of the top pixels of two maps (h, w)."""
    wa, wb = top_weights(a, share), top_weights(b, share)
    return float(np.minimum(wa, wb).sum() / np.maximum(wa, wb).sum())


def iou_curve(a: NDArray[np.floating], b: NDArray[np.floating]) -> list[float | None]:
    """IoU of {m ≥ t} at t = 0.1 … 0.9; None where both sets are empty."""
    curve: list[float | None] = []
    for t in IOU_THRESHOLDS:
        union = int(((a >= t) | (b >= t)).sum())
        curve.append(int(((a >= t) & (b >= t)).sum()) / union if union else None)
    return curve


def rank(a: NDArray[np.floating], b: NDArray[np.floating]) -> float | None:
    """Spearman rank correlation of two maps; None for a constant map."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(stats.spearmanr(np.ravel(a), np.ravel(b)).statistic)
