"""How far several interpreters disagree about one prediction, as a number that has a gradient.

Every member explains the picture and a slightly smoothed copy of it (Gaussian, σ 1 px at an input of 224 px). What was
put into a picture to move prediction and maps lives in its finest detail; what a camera saw does not.

    d_i   1 − Pearson correlation of member i's two maps, averaged over 7×7 cells
    d_0   − log p_c of the copy, c the predicted class: what the classifier itself says of it
    v     log(d + 0.02)
    s     min over u ≤ μ of (v − u)ᵀ Σ⁻¹ (v − u)        μ and Σ of v on benign images

s, the alarm's score, is how far v is (Mahalanobis) from all that agrees at least as well as an average benign image:
0 there, and never less for more disagreement (the one-sided test of Kudô 1963 and Perlman 1969). Its least squares have
a form: of all sets S of distances for which λ = Σ_SS⁻¹ (v − μ)_S ≥ 0, the largest (v − μ)_Sᵀ λ.

The members' disagreement among each other on the picture itself says nothing: all of them follow the classifier's
forged features, and benign maps of different kinds differ as much (docs/defenses.md has the figures).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from underfire.core import Images, Labels, Maps, PerImage

GRID = 7
"""Cells a side that maps are compared on: CAM's own size on a 224 px EfficientNet-Lite0, and coarse enough for GRAD."""
SIGMA = 1 / 224
"""Of the smoothing, as a share of the side; at least half a pixel."""
FLOOR = 0.02
"""Distances below this are all the same: near 0 the logarithm would make much of nothing."""
FLAT = 1e-6
"""Spread below which a map says nothing: it correlates with no other."""
SHRINK = 0.1
"""So much of each variance is added to it: few benign images say little of how the distances go together."""


def smoothed(x: Images) -> Images:
    """The copy that the members are asked about too."""
    sigma = max(0.5, SIGMA * x.shape[-1])
    size = 2 * math.ceil(3 * sigma) + 1
    copy: Images = transforms.gaussian_blur(x, [size, size], [sigma, sigma])
    return copy


def distances(shown: Sequence[Maps], again: Sequence[Maps], log_p: PerImage) -> Tensor:
    """D (N, 1 + members) of each member's maps of a picture and of its copy, and the class's log-probability there."""
    of_maps = [1 - (_standard(m) * _standard(copy)).sum(1) for m, copy in zip(shown, again, strict=True)]
    return torch.stack([-log_p.to(of_maps[0]), *of_maps], 1)


def _standard(m: Maps) -> Tensor:
    """Coarse maps as rows (N, cells) without their mean and of length 1; of length 0 where they are flat."""
    cells = F.adaptive_avg_pool2d(m[:, None], GRID).flatten(1)
    centred = cells - cells.mean(1, keepdim=True)
    return centred / (centred.square().sum(1, keepdim=True) + FLAT**2).sqrt()


def statistics(d: Tensor) -> tuple[Tensor, Tensor]:
    """μ (k,) and Σ (k, k) of v, from benign distances (N, k)."""
    v = _logarithm(d)
    covariance = torch.cov(v.T)
    return v.mean(0), covariance + (SHRINK * covariance.diag() + FLAT).diag()


def alarm_score(d: Tensor, mean: Tensor, covariance: Tensor) -> PerImage:
    """S (N,) of distances (N, k), with the μ and Σ of the same k."""
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


def log_probability(z: Tensor, y: Labels) -> PerImage:
    """Log p_y (N,) of logits (N, K)."""
    return z.log_softmax(1).gather(1, y[:, None])[:, 0]
