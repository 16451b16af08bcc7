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
from underfire.defenses import statistic
from underfire.interpreters.cam import Cam
from underfire.interpreters.cells import POOL
from underfire.interpreters.grad import Grad


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


@replicates(statistic.unlike, drawn(lambda g: (uniform(g, 3, 14, 14), uniform(g, 3, 56, 56))), atol=1e-6, examples=5)
def unlike(a: Tensor, b: Tensor) -> list[float]:
    """1 − the correlation of two maps, averaged over 7×7 cells."""
    return [1 - correlation(coarse(one), coarse(other)) for one, other in zip(a, b, strict=True)]


def coarse(m: Tensor) -> list[float]:
    """Averages over 7×7 cells."""
    cells, side = range(7), len(m) // 7
    return [float(m[i * side : (i + 1) * side, j * side : (j + 1) * side].mean()) for i, j in product(cells, cells)]


@replicates(statistic.moments, drawn(lambda g: (uniform(g, 40, 3),)))
def moments(of: Tensor) -> tuple[list[float], list[float]]:
    """Mean and covariance, each variance a tenth larger."""
    v = of.numpy()
    covariance = np.cov(v.T)
    return v.mean(0).tolist(), (covariance + np.diag(0.1 * np.diag(covariance) + 1e-6)).ravel().tolist()


def some_excesses(g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Excesses (20, k) over a mean, and a covariance that is far from diagonal."""
    k = int(torch.randint(1, 6, (), generator=g))
    root = uniform(g, k, k)
    return 2 * normal(g, 20, k), root @ root.T + 0.02 * torch.eye(k, dtype=torch.float64)


@replicates(statistic.two_sided, drawn(some_excesses), atol=1e-7, examples=5)
def two_sided(r: Tensor, covariance: Tensor) -> list[float]:
    """The Mahalanobis distance, by the inverse."""
    return [float(one @ np.linalg.inv(covariance.numpy()) @ one) for one in r.numpy()]


@replicates(statistic.one_sided, drawn(some_excesses), atol=1e-7, examples=20)
def one_sided(r: Tensor, covariance: Tensor) -> list[float]:
    """The least Mahalanobis distance to all that is no larger, by non-negative least squares."""
    root = np.linalg.cholesky(np.linalg.inv(covariance.numpy())).T  # rᵀ Σ⁻¹ r = ‖root · r‖²
    return [float(nnls(-root, root @ one)[1] ** 2) for one in r.numpy()]
