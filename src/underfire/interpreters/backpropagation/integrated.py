"""Integrated Gradients (Sundararajan et al. 2017) and input × gradient, which is one point of it.

    attribution = (x − x′) ⊙ mean over α of ∂z_c(x′ + α (x − x′))/∂x           α at the middles of equal steps
    m           = min-max scaled  mean over 4×4 px of  |Σ colours attribution|

In pixels: x and the baseline x′ lie in [0, 1], and the normalisation belongs to the classifier.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from underfire.core import Classifier, Images
from underfire.interpreters.backpropagation.baseline import baseline_of
from underfire.interpreters.backpropagation.points import PointMap, Points, options_but
from underfire.interpreters.square import square_side
from underfire.registry import register


@register("interpreters", "ig")
class IntegratedGradients(PointMap):
    """Integrated Gradients.

    Args:
        classifier: any differentiable classifier.
        steps: points of the path from the baseline to the image.
        baseline: 'black', 'grey', 'white', or an image file of the classifier's input size.

    Raises:
        UnderfireError: an unknown baseline, or one of another size.
    """

    name = "ig"
    attack_options = options_but("known")  # nothing is drawn

    def __init__(
        self, classifier: Classifier, steps: Annotated[int, Field(ge=1, le=10_000)] = 32, baseline: str = "black"
    ) -> None:
        super().__init__(classifier, steps)
        self.steps = steps
        self.start, file = baseline_of(baseline, square_side(classifier, self.name))
        self.digest = " ".join(filter(None, (self.digest, file)))

    def points(self, x: Images) -> Points:
        """Make the points of the path, from the baseline to the image."""
        return Path(self.start.to(x), self.steps)

    def evidence(self, gradient: Tensor, x: Images) -> Tensor:
        """Compute |Σ colours (x − x′) ⊙ gradient|."""
        return ((x - self.start.to(x)) * gradient).sum(1).abs()


class Path(Points):
    """Points x′ + α (x − x′) at the middles of ``n`` equal steps, from the baseline ``start``."""

    def __init__(self, start: Tensor, n: int) -> None:
        self.start, self.n = start, n

    def at(self, x: Images, k: int) -> Images:
        """Compute the k-th point of the path."""
        return self.start + (k + 0.5) / self.n * (x - self.start)


class Itself(Points):
    """The image itself."""

    n = 1

    def at(self, x: Images, k: int) -> Images:
        """Return the image."""
        return x


@register("interpreters", "inputxgrad")
class InputXGradient(PointMap):
    """Input × gradient (Shrikumar et al. 2016): |Σ colours x ⊙ ∂z_c/∂x|.

    Args:
        classifier: any differentiable classifier.
    """

    name = "inputxgrad"
    attack_options = options_but("draws", "memory", "known")  # it has one point
    alone = True

    def __init__(self, classifier: Classifier) -> None:
        super().__init__(classifier, 1)

    def points(self, x: Images) -> Points:
        """Return the image, its only point."""
        return Itself()

    def evidence(self, gradient: Tensor, x: Images) -> Tensor:
        """Compute |Σ colours x ⊙ gradient|."""
        return torch.sum(x * gradient, 1).abs()
