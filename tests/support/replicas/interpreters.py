"""CAM and GRAD, with loops over pixels and channels; the alarm of an ensemble, by other libraries."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from support.replicas import drawn, normal, replicates, uniform
from support.replicas.maps import correlation, unit_scale
from support.toys import CLASSES, kinked, toy
from underfire.defenses.ensemble import score
from underfire.interpreters.cam import Cam
from underfire.interpreters.grad import POOL, Grad


@cache
def cam() -> Cam:
    return Cam(toy())


@cache
def grad() -> Grad:
    return Grad(kinked())


def classes(g: torch.Generator, n: int) -> Tensor:
    return torch.randint(CLASSES, (n,), generator=g)


@replicates(Cam.of_features, drawn(lambda g: (cam(), normal(g, 2, 6, 3, 4), classes(g, 2))))
def of_features(one: Cam, features: Tensor, y: Tensor) -> list[list[float]]:
    """Σ_k w_{c,k} A_k at each pixel, then to [0, 1]."""
    n, channels, height, width = features.shape
    raw = torch.zeros(n, height, width, dtype=torch.float64)
    for i, k, row, column in product(range(n), range(channels), range(height), range(width)):
        raw[i, row, column] += one.head[y[i], k] * features[i, k, row, column]
    return unit_scale(raw)


@replicates(Grad.explain, drawn(lambda g: (grad(), uniform(g, 2, 3, 16, 16), classes(g, 2))), examples=10)
def saliency(one: Grad, x: Tensor, y: Tensor) -> list[list[float]]:
    """|∂ℓ_c/∂x| of one image at a time, largest colour, means of 4×4, then to [0, 1]."""
    raw = []
    for image, c in zip(x, y.tolist(), strict=True):
        leaf = image.clone().requires_grad_()
        z = one.classifier.logits(leaf[None])[0]
        odds = z[c] - torch.log(torch.stack([torch.exp(z[k]) for k in range(len(z)) if k != c]).sum())
        g = torch.autograd.grad(odds, leaf)[0].abs()
        largest = torch.maximum(torch.maximum(g[0], g[1]), g[2])
        starts = range(0, largest.shape[0], POOL)
        raw.append([[float(largest[i : i + POOL, j : j + POOL].mean()) for j in starts] for i in starts])
    return unit_scale(torch.tensor(raw, dtype=torch.float64))


# -- the ensemble's alarm ---------------------------------------------------------------------------------------------


def looks(g: torch.Generator) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Maps of three sizes, those of the copies, and log-probabilities."""
    shown, again = ([uniform(g, 3, side, side) for side in (7, 14, 56)] for _ in "ab")
    return shown, again, -uniform(g, 3)


@replicates(score.distances, drawn(looks), atol=1e-6, examples=5)
def distances(shown: list[Tensor], again: list[Tensor], log_p: Tensor) -> list[list[float]]:
    """−log p, then 1 − the correlation of each member's two maps, averaged over 7×7 cells."""
    found = []
    for k in range(len(log_p)):
        agreement = (correlation(coarse(a[k]), coarse(b[k])) for a, b in zip(shown, again, strict=True))
        found.append([-float(log_p[k]), *(1 - r for r in agreement)])
    return found


def coarse(m: Tensor) -> list[float]:
    """Averages over 7×7 cells."""
    cells, side = range(7), len(m) // 7
    return [float(m[i * side : (i + 1) * side, j * side : (j + 1) * side].mean()) for i, j in product(cells, cells)]


@replicates(score.statistics, drawn(lambda g: (uniform(g, 40, 3),)))
def statistics(d: Tensor) -> tuple[list[float], list[float]]:
    """Mean and covariance of log(d + 0.02), each variance a tenth larger."""
    v = np.log(d.numpy() + 0.02)
    covariance = np.cov(v.T)
    return v.mean(0).tolist(), (covariance + np.diag(0.1 * np.diag(covariance) + 1e-6)).ravel().tolist()


def some_distances(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Distances (20, k) about usual ones, with the usual ones' mean and a covariance that is far from diagonal."""
    k = int(torch.randint(1, 6, (), generator=g))
    mean, root = uniform(g, k) - 2, uniform(g, k, k)
    covariance = root @ root.T + 0.02 * torch.eye(k, dtype=torch.float64)
    return ((mean + 2 * normal(g, 20, k)).exp() - score.FLOOR).clamp_min(1e-3), mean, covariance


@replicates(score.alarm_score, drawn(some_distances), atol=1e-7, examples=20)
def alarm_score(d: Tensor, mean: Tensor, covariance: Tensor) -> list[float]:
    """The least Mahalanobis distance to all that agrees as well, by non-negative least squares."""
    r = np.log(d.numpy() + 0.02) - mean.numpy()
    root = np.linalg.cholesky(np.linalg.inv(covariance.numpy())).T  # rᵀ Σ⁻¹ r = ‖root · r‖²
    return [float(nnls(-root, root @ one)[1] ** 2) for one in r]
