"""LIME and KernelSHAP: the weights of a linear model of the class score, fitted on random sets of segments.

LIME          min_w Σ_k π_k (s_k − w_0 − w·z_k)² + ‖w‖² ,   π = exp(−d²/0.25²) ,   d = 1 − cos(z_k, 1)
KernelSHAP    min_φ Σ_k (s_k − s_∅ − φ·z_k)²   s.t.  Σφ = s_all − s_∅ ,   |z_k| drawn ∝ (S−1) / (|z|(S−|z|))
              where few sets leave φ open, the nearest to equal parts
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from underfire.core import Classifier, ImageErrors, Images
from underfire.interpreters.cells import celled
from underfire.interpreters.drawn import generator, generators
from underfire.interpreters.removal.removal_map import Masks, RemovalMap
from underfire.interpreters.removal.segments import Segments, check_segments, grid_side
from underfire.interpreters.square import square_side
from underfire.registry import register

WIDTH = 0.25
"""Width of LIME's kernel, as in the authors' code for images."""
RIDGE = 1.0
"""Weight of LIME's ‖w‖², likewise."""
TINY = 1e-6
"""A number that keeps KernelSHAP's normal equations from being singular where few sets are drawn."""
MANY = 8
"""Sets for each segment that surely leave no weight open."""


class LinearMap(RemovalMap):
    """Weights of a linear model over segments; 7×7 where the segments are a grid of 49.

    The superpixels are those of the picture that is explained; the attacker's, those of the clean one.

    Args:
        classifier: any classifier.
        n: number of sets of segments.
        segments: 'grid' or 'superpixels' (SLIC of scikit-image).
        number: of segments.
        seed: of the sets.
        fill: colour of what is removed.

    Raises:
        UnderfireError: an unknown kind of segments, a single one, or more segments than pixels.
    """

    def __init__(
        self,
        classifier: Classifier,
        n: Annotated[int, Field(ge=2, le=100_000)] = 400,
        segments: str = "grid",
        number: int = 49,
        seed: int = 0,
        fill: str = "grey",
    ) -> None:
        check_segments(self.name, segments, number, square_side(classifier, self.name))
        super().__init__(classifier, fill, n)
        self.n, self.segments, self.number, self.seed = n, segments, number, seed
        if segments != "grid":
            self.digest = celled(self.digest, classifier)

    def masks(self, x: Images) -> Masks:
        """Draw the victim's sets."""
        return Sets(self, x, self.n, self.name)

    def draws(self, x: Images, n: int) -> Masks:
        """Draw sets of the same kind, of the clean picture's segments."""
        return Sets(self, x, n, f"{self.name}/attack")

    @abstractmethod
    def drawn(self, rng: np.random.Generator, n: int, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """Draw ``n`` sets of ``count`` segments (n, count): 1 is kept."""

    @abstractmethod
    def fitted(self, sets: Tensor, scores: Tensor) -> Tensor:
        """Fit the weights (count,) to the scores (n,) at the sets (n, count); float64."""


class Sets(Masks):
    """Random sets of segments, for each image from a generator of its own.

    Args:
        interpreter: who draws and fits.
        x: images (N, 3, H, W).
        n: sets of each.
        purpose: whose they are.

    Raises:
        ImageErrors: images in which one segment was found.
    """

    def __init__(self, interpreter: LinearMap, x: Images, n: int, purpose: str) -> None:
        self.interpreter, self.n = interpreter, n
        self.segments = Segments(x, interpreter.segments, interpreter.number)
        whole = [row for row, count in enumerate(self.segments.counts) if count < 2]
        if whole:
            raise ImageErrors(
                dict.fromkeys(whole, "superpixels found one segment in it, so there are no parts to remove.")
            )
        most = max(self.segments.counts)
        self.kept = torch.zeros(len(x), n, most, dtype=x.dtype, device=x.device)
        for row, rng in enumerate(generators(x, interpreter.seed, purpose)):
            count = self.segments.counts[row]
            self.kept[row, :, :count] = torch.from_numpy(interpreter.drawn(rng, n, count)).to(x)

    def keep(self, k: int) -> Tensor:
        """Make the mask of the k-th set of each image."""
        return self.segments.keep(self.kept[:, k])

    def evidence(self, scores: Tensor) -> Tensor:
        """Fit each image's linear model, and paint its weights on the segments."""
        weights = torch.zeros_like(self.kept[:, 0])
        for row, count in enumerate(self.segments.counts):
            sets = self.kept[row, :, :count].to(scores.device, torch.float64)
            weights[row, :count] = self.interpreter.fitted(sets, scores[row].double()).to(weights)
        return self.segments.painted(weights)


@register("interpreters", "lime")
class Lime(LinearMap):
    """LIME (Ribeiro et al. 2016)."""

    name = "lime"

    def drawn(self, rng: np.random.Generator, n: int, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """Draw each segment with probability ½; the first set keeps all, as in the authors' code."""
        sets = rng.integers(2, size=(n, count)).astype(np.float64)
        sets[0] = 1
        return sets

    def fitted(self, sets: Tensor, scores: Tensor) -> Tensor:
        """Fit a ridge regression with weights that fall with the distance from the whole image."""
        cosine = sets.sum(1) / (sets.square().sum(1) * sets.shape[1]).sqrt().clamp_min(1)
        pi = (-((1 - cosine) ** 2) / WIDTH**2).exp().sqrt()
        mean = (pi[:, None] * sets).sum(0) / pi.sum()
        centred, rest = sets - mean, scores - (pi * scores).sum() / pi.sum()
        normal = (centred * pi[:, None]).T @ centred + RIDGE * torch.eye(sets.shape[1]).to(sets)
        weights: Tensor = torch.linalg.solve(normal, centred.T @ (pi * rest))
        return weights


@register("interpreters", "kernelshap")
class KernelShap(LinearMap):
    """KernelSHAP (Lundberg & Lee 2017)."""

    name = "kernelshap"

    def __init__(
        self,
        classifier: Classifier,
        n: Annotated[int, Field(ge=3, le=100_000)] = 400,  # two sets are nothing and all
        segments: str = "grid",
        number: int = 49,
        seed: int = 0,
        fill: str = "grey",
    ) -> None:
        super().__init__(classifier, n, segments, number, seed, fill)
        # Earlier versions gave what few sets leave open to the last segment: those maps had other numbers.
        if self._leaves_open(grid_side(number) ** 2 if segments == "grid" else number):
            self.digest = f"{self.digest} equal parts"

    def _leaves_open(self, count: int) -> bool:
        """Tell whether the victim's sets are too few for the weights of ``count`` segments."""
        if not count < self.n <= MANY * count:
            return self.n <= count
        sets = _from_mean(torch.from_numpy(self.drawn(generator(self.seed, self.name), self.n, count)[2:]))
        return int(torch.linalg.matrix_rank(sets.T @ sets, hermitian=True)) < count - 1

    def drawn(self, rng: np.random.Generator, n: int, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """Draw sizes by the Shapley kernel and sets of that size evenly; the first two keep nothing and all."""
        sizes = np.arange(1, count)
        share = 1 / (sizes * (count - sizes))
        drawn = rng.choice(sizes, n, p=share / share.sum())
        order = rng.random((n, count)).argsort(1).argsort(1)
        sets = (order < drawn[:, None]).astype(np.float64)
        sets[0], sets[1] = 0, 1
        return sets

    def fitted(self, sets: Tensor, scores: Tensor) -> Tensor:
        """Fit by least squares what adds up to the score of the whole image less that of nothing.

        φ = gain / S + ψ, Σψ = 0: so it is a fit of ψ to what equal parts of the gain leave of the scores.
        """
        empty, gain = scores[0], scores[1] - scores[0]
        z = _from_mean(sets[2:])
        rest = scores[2:] - empty - gain * sets[2:].mean(1)
        psi: Tensor = torch.linalg.solve(z.T @ z + TINY * torch.eye(z.shape[1]).to(z), z.T @ rest)
        return gain / z.shape[1] + psi - psi.mean()


def _from_mean(sets: Tensor) -> Tensor:
    """Take its mean from each of the sets (n, count): where Σψ = 0, ψ·z stays the same."""
    return sets - sets.mean(1, keepdim=True)
