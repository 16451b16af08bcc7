"""How far the maps of several interpreters disagree about one prediction, as a number that has a gradient.

p_i      member i's map, averaged over a 7×7 grid
d_ij     1 − Pearson correlation of p_i and p_j,  in [0, 2]
z        (d − μ) / σ      over all pairs, μ and σ those of benign images: they disagree too
s        the alarm's score  log mean exp z   (a smooth maximum: one strong disagreement is enough)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from underfire.core import Maps, PerImage

GRID = 7
"""Cells a side that maps are compared on: CAM's own size on a 224 px EfficientNet-Lite0, and coarse enough for GRAD."""
FLAT = 1e-6
"""Spread below which a map says nothing: it correlates with no other."""


def pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Every two of the members, in order."""
    return list(itertools.combinations(names, 2))


def distances(shown: Sequence[Maps]) -> Tensor:
    """D (N, pairs) of one map (N, h, w) a member, each of its own size."""
    coarse = [_standard(F.adaptive_avg_pool2d(m[:, None], GRID).flatten(1)) for m in shown]
    return torch.stack([1 - (a * b).sum(1) for a, b in itertools.combinations(coarse, 2)], 1)


def _standard(v: Tensor) -> Tensor:
    """Rows (N, cells) without their mean and of length 1; of length 0 where they are flat."""
    centred = v - v.mean(1, keepdim=True)
    return centred / (centred.square().sum(1, keepdim=True) + FLAT**2).sqrt()


def score(d: Tensor, mean: Tensor, spread: Tensor) -> PerImage:
    """S (N,) of distances (N, pairs), from the benign ones' mean and spread (pairs,)."""
    z = (d - mean) / spread
    return z.logsumexp(1) - math.log(z.shape[1])
