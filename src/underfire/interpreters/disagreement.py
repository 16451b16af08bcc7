"""How far several interpreters disagree about one prediction, as a number that has a gradient.

Every member explains the picture and a slightly smoothed copy of it (Gaussian, σ 1 px at an input of 224 px). What was
put into a picture to move prediction and maps lives in its finest detail; what a camera saw does not.

    d_i   1 − Pearson correlation of member i's two maps, averaged over 7×7 cells
    d_0   − log p_c of the copy, c the predicted class: what the classifier itself says of it
    v     log(d + 0.02)
    r     max(0, v − μ)             only more disagreement than usual counts; μ and Σ are those of benign images
    s     rᵀ Σ⁻¹ r                  the alarm's score, 0 where all agree as well as they do on an average benign image

The members' disagreement among each other on the picture itself says nothing: all of them follow the classifier's
forged features, and benign maps of different kinds differ as much (docs/defenses.md has the figures).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from underfire.core import Images, Maps, PerImage

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
    """μ (k,) and Σ⁻¹ (k, k) of v, from benign distances (N, k)."""
    v = _logarithm(d)
    covariance = torch.cov(v.T)
    return v.mean(0), torch.linalg.inv(covariance + (SHRINK * covariance.diag() + FLAT).diag())


def marginal(mean: Tensor, precision: Tensor, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
    """μ and Σ⁻¹ of some of the distances alone."""
    if len(rows) == len(mean):
        return mean, precision
    picked = torch.tensor(rows, device=mean.device)
    covariance = torch.linalg.inv(precision)
    return mean[picked], torch.linalg.inv(covariance[picked][:, picked])


def score(d: Tensor, mean: Tensor, precision: Tensor) -> PerImage:
    """S (N,) of distances (N, k)."""
    r = (_logarithm(d) - mean).clamp_min(0)
    return ((r @ precision) * r).sum(1)


def _logarithm(d: Tensor) -> Tensor:
    return (d.clamp_min(0) + FLOOR).log()
