"""How far evidence is from what is normal on benign photos: statistics of it, as numbers with a gradient."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from underfire.core import Maps, PerImage

GRID = 7
"""Side of the grid of cells that maps are compared on: CAM's own size on a 224 px EfficientNet-Lite0."""
FLOOR = 0.02
"""Number that is added to distances: near 0 the logarithm would turn tiny differences into large ones."""
FLAT = 1e-6
"""Spread below which a map is flat: it correlates with no other map."""
SHRINK = 0.1
"""Share of each variance that is added to it: few benign images tell little about covariances."""
MOST = 7
"""Parts of the evidence up to which all their subsets are tried."""


def standard(m: Maps) -> Tensor:
    """Turn maps into rows (N, cells) with mean 0 and length 1; flat maps have length 0."""
    cells = F.adaptive_avg_pool2d(m[:, None], GRID).flatten(1)
    centred = cells - cells.mean(1, keepdim=True)
    return centred / (centred.square().sum(1, keepdim=True) + FLAT**2).sqrt()


def unlike(a: Maps, b: Maps) -> PerImage:
    """Compute 1 − the Pearson correlation (N,) of two maps over 7×7 cells."""
    return 1 - (standard(a) * standard(b)).sum(1)


def logarithm(d: Tensor) -> Tensor:
    """Compute v = log(d + 0.02) of distances."""
    return (d.clamp_min(0) + FLOOR).log()


def moments(v: Tensor) -> tuple[Tensor, Tensor]:
    """Compute μ (k,) and Σ (k, k) of (n, k) values of benign images, each variance a tenth larger than it is."""
    covariance = torch.cov(v.T).reshape(v.shape[1], v.shape[1])
    return v.mean(0), covariance + (SHRINK * covariance.diag() + FLAT).diag()


def one_sided(r: Tensor, covariance: Tensor) -> PerImage:
    """Compute min over u ≤ 0 of (r − u)ᵀ Σ⁻¹ (r − u), (N,) of r (N, k): how far r lies from all that is no larger.

    It is 0 for r ≤ 0, and a larger r never lowers it (the one-sided test of Kudô 1963 and Perlman 1969). The minimum
    has a closed form: of all sets S of columns with λ = Σ_SS⁻¹ r_S ≥ 0, the largest r_Sᵀ λ. Of more than `MOST` columns
    each counts by itself: their sum of squares, as if Σ were diagonal.
    """
    k = r.shape[1]
    if k > MOST:
        return (r.clamp_min(0).square() / covariance.diag()).sum(1)
    best = torch.zeros_like(r[:, 0])
    for some in itertools.chain.from_iterable(itertools.combinations(range(k), n) for n in range(1, k + 1)):
        picked = list(some)
        part = r[:, picked]
        weight = torch.linalg.solve(covariance[picked][:, picked], part.T).T
        of_these = (weight * part).sum(1)
        best = torch.where((weight >= 0).all(1) & (of_these > best), of_these, best)
    return best


def two_sided(r: Tensor, covariance: Tensor) -> PerImage:
    """Compute the Mahalanobis distance rᵀ Σ⁻¹ r, (N,) of r (N, k)."""
    distance: PerImage = (torch.linalg.solve(covariance, r.T).T * r).sum(1)
    return distance
