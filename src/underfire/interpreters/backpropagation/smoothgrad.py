"""SmoothGrad (Smilkov et al. 2017): the mean gradient at noisy copies of the image.

m = min-max scaled  mean over 4×4 px of  max over colours |mean over n of ∂z_c(x + σ·noise)/∂x|
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from underfire.core import Classifier, Images
from underfire.interpreters.backpropagation.points import Draw, PointMap
from underfire.interpreters.drawn import generators, normal
from underfire.registry import register


@register("interpreters", "smoothgrad")
class SmoothGrad(PointMap):
    """SmoothGrad; the victim's noise is drawn from ``seed``, the same for every picture.

    Args:
        classifier: any differentiable classifier.
        n: number of noisy copies.
        sigma: standard deviation of the noise, in units of the range [0, 1] of a pixel.
        seed: seed of the noise, together with the image's pixels.
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

    def points(self, x: Images) -> Iterator[Images]:
        """Yield the noisy copies, which may leave [0, 1]."""
        noise = Noise(self, x, "smoothgrad")
        return (noise.next(x) for _ in range(self.n))

    def draw(self, x: Images) -> Draw:
        """Start the attacker's own noise: he cannot know the victim's, which hangs on the picture that he makes."""
        return Noise(self, x, "smoothgrad/attack")

    def evidence(self, gradient: Tensor, x: Images) -> Tensor:
        """Compute the largest absolute value over the colours."""
        return gradient.abs().amax(1)


class Noise(Draw):
    """Noisy copies, for each image from a generator of its own.

    Args:
        smoothgrad: the interpreter.
        x: images (N, 3, H, W) that the generators are started from.
        purpose: whose noise it is.
    """

    def __init__(self, smoothgrad: SmoothGrad, x: Images, purpose: str) -> None:
        self.sigma, self.started = smoothgrad.sigma, generators(x, smoothgrad.seed, purpose)

    def next(self, x: Images) -> Images:
        """Draw a noisy copy."""
        return x + self.sigma * normal(self.started, tuple(x.shape[1:]), x)

    def select(self, keep: Tensor) -> None:
        """Keep only the generators of the rows ``keep``."""
        self.started = [self.started[n] for n in torch.arange(len(self.started))[keep.cpu()].tolist()]
