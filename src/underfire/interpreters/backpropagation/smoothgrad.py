"""SmoothGrad (Smilkov et al. 2017): the mean gradient at noisy copies of the image.

m = min-max scaled  mean over 4×4 px of  max over colours |mean over n of ∂z_c(x + σ·noise)/∂x|
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from underfire.core import Classifier, Images
from underfire.interpreters.backpropagation.points import PointMap, Points
from underfire.interpreters.drawn import generator, normal
from underfire.registry import register


@register("interpreters", "smoothgrad")
class SmoothGrad(PointMap):
    """SmoothGrad; the victim's noise is drawn from ``seed``, the same for every picture.

    Args:
        classifier: any differentiable classifier.
        n: number of noisy copies.
        sigma: standard deviation of the noise, in units of the range [0, 1] of a pixel.
        seed: seed of the noise.
    """

    name = "smoothgrad"

    def __init__(
        self,
        classifier: Classifier,
        n: Annotated[int, Field(ge=1, le=10_000)] = 16,
        sigma: Annotated[float, Field(gt=0, le=10)] = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__(classifier, n)
        self.n, self.sigma, self.seed = n, sigma, seed

    def points(self, x: Images) -> Points:
        """Make the noisy copies, which may leave [0, 1]."""
        return NoisyPoints(self, "smoothgrad")

    def guessed(self, x: Images) -> Points:
        """Make noise of the same kind that is new each time."""
        return NoisyPoints(self, "smoothgrad/attack", anew=True)

    def evidence(self, gradient: Tensor, x: Images) -> Tensor:
        """Compute the largest absolute value over the colours."""
        return gradient.abs().amax(1)


class NoisyPoints(Points):
    """Noisy copies, with the same noise for every picture; each is drawn by its number, so none is kept.

    Args:
        smoothgrad: the interpreter.
        purpose: whose noise it is.
        anew: whether each look at a copy draws new noise.
    """

    def __init__(self, smoothgrad: SmoothGrad, purpose: str, anew: bool = False) -> None:
        self.n, self.sigma, self.seed = smoothgrad.n, smoothgrad.sigma, smoothgrad.seed
        self.purpose, self.anew, self.looks = purpose, anew, 0

    def at(self, x: Images, k: int) -> Images:
        """Compute the k-th noisy copy."""
        self.looks += 1
        rng = generator(self.seed, f"{self.purpose}/{self.looks if self.anew else k}")
        return x + self.sigma * normal(rng, x)
