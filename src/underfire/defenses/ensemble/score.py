"""The score of the ensemble alarm (method, section 6.1): how far interpreters disagree, as a number with a gradient.

Every member explains the image and a slightly smoothed copy of it (Gaussian, σ 1 px at an input of 224 px). What an
attack puts into an image to move prediction and maps is in the finest detail; what a camera has seen is not.

    d_i   1 − Pearson correlation of member i's two maps, averaged over 7×7 cells
    d_0   − log p_c of the copy, c the predicted class of the image
    v     log(d + 0.02)
    s     min over u ≤ μ of (v − u)ᵀ Σ⁻¹ (v − u)        μ and Σ of v on benign images

The score s is the Mahalanobis distance of v from all points u that agree at least as well as an average benign image.
It is 0 for such points, and more disagreement never lowers it (the one-sided test of Kudô 1963 and Perlman 1969). This
minimum has a closed form: of all sets S of distances with λ = Σ_SS⁻¹ (v − μ)_S ≥ 0, the largest (v − μ)_Sᵀ λ.

How the members disagree with each other on the image itself says nothing: all of them follow the classifier's forged
features, and benign maps of different kinds differ as much (docs/defenses.md has the figures).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from underfire.core import Images, Maps, PerImage

GRID = 7
"""Side of the grid of cells that maps are compared on: CAM's own size on a 224 px EfficientNet-Lite0."""
SIGMA = 1 / 224
"""σ of the smoothing, as a share of the side; at least half a pixel."""
FLOOR = 0.02
"""Number that is added to distances: near 0 the logarithm would turn tiny differences into large ones."""
FLAT = 1e-6
"""Spread below which a map is flat: it correlates with no other map."""
SHRINK = 0.1
"""Share of each variance that is added to it: few benign images tell little about covariances."""


def smoothed_copy(x: Images) -> Images:
    """Smooth images (N, 3, H, W): the copies that the members explain too."""
    sigma = max(0.5, SIGMA * min(x.shape[-2:]))
    size = 2 * math.ceil(3 * sigma) + 1
    copy: Images = transforms.gaussian_blur(x, [size, size], [sigma, sigma])
    return copy


def distances(shown: Sequence[Maps], again: Sequence[Maps], log_p: PerImage) -> Tensor:
    """Compute d (N, 1 + members).

    Args:
        shown: each member's maps (N, h, w) of the images.
        again: each member's maps of their copies.
        log_p: (N,) log-probabilities of the classes on the copies.
    """
    of_maps = [1 - (_standard(m) * _standard(copy)).sum(1) for m, copy in zip(shown, again, strict=True)]
    return torch.stack([-log_p.to(of_maps[0]), *of_maps], 1)


def _standard(m: Maps) -> Tensor:
    """Turn maps into rows (N, cells) with mean 0 and length 1; flat maps have length 0."""
    cells = F.adaptive_avg_pool2d(m[:, None], GRID).flatten(1)
    centred = cells - cells.mean(1, keepdim=True)
    return centred / (centred.square().sum(1, keepdim=True) + FLAT**2).sqrt()


def statistics(d: Tensor) -> tuple[Tensor, Tensor]:
    """Compute μ (k,) and Σ (k, k) of v, from distances (N, k) of benign images."""
    v = _logarithm(d)
    covariance = torch.cov(v.T)
    return v.mean(0), covariance + (SHRINK * covariance.diag() + FLAT).diag()


def alarm_score(d: Tensor, mean: Tensor, covariance: Tensor) -> PerImage:
    """Compute s (N,) of distances (N, k), with μ (k,) and Σ (k, k)."""
    r = _logarithm(d) - mean
    best = torch.zeros_like(r[:, 0])
    k = len(mean)
    for some in itertools.chain.from_iterable(itertools.combinations(range(k), n) for n in range(1, k + 1)):
        picked = list(some)
        part = r[:, picked]
        weight = torch.linalg.solve(covariance[picked][:, picked], part.T).T
        of_these = (weight * part).sum(1)
        best = torch.where((weight >= 0).all(1) & (of_these > best), of_these, best)
    return best


def _logarithm(d: Tensor) -> Tensor:
    return (d.clamp_min(0) + FLOOR).log()
