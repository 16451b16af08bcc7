"""Integrated Gradients (Sundararajan et al. 2017) and input × gradient, which is one point of it.

    attribution = (x − x′) ⊙ mean over α of ∂z_c(x′ + α (x − x′))/∂x           α at the middles of equal steps
    m           = min-max scaled  mean over 4×4 px of  |Σ colours attribution|

In pixels: x and the baseline x′ lie in [0, 1], and the normalisation belongs to the classifier.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from underfire.core import Classifier, Images
from underfire.interpreters.backpropagation.baseline import baseline_of
from underfire.interpreters.backpropagation.points import Draw, PointMap
from underfire.interpreters.square import square_side
from underfire.registry import register

GOLDEN = (5**0.5 - 1) / 2
"""A number whose multiples, modulo 1, fill the unit interval evenly: nothing random is needed."""


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

    def __init__(
        self, classifier: Classifier, steps: Annotated[int, Field(ge=1, le=10_000)] = 32, baseline: str = "black"
    ) -> None:
        super().__init__(classifier, steps)
        self.steps = steps
        self.start, self.digest = baseline_of(baseline, square_side(classifier, self.name))

    def at(self, x: Images, alpha: float) -> Images:
        """Compute the point x′ + α (x − x′)."""
        start = self.start.to(x)
        return start + alpha * (x - start)

    def points(self, x: Images) -> Iterator[Images]:
        """Yield the points of the path, from the baseline to the image."""
        return (self.at(x, (k + 0.5) / self.steps) for k in range(self.steps))

    def draw(self, x: Images) -> Draw:
        """Start to draw points of the path."""
        return AlongPath(self)

    def evidence(self, gradient: Tensor, x: Images) -> Tensor:
        """Compute |Σ colours (x − x′) ⊙ gradient|."""
        return ((x - self.start.to(x)) * gradient).sum(1).abs()


class AlongPath(Draw):
    """Points of the path in an order that fills it evenly."""

    def __init__(self, ig: IntegratedGradients) -> None:
        self.ig, self.taken = ig, 0

    def next(self, x: Images) -> Images:
        """Take one of the victim's points."""
        self.taken += 1
        k = int(self.taken * GOLDEN % 1 * self.ig.steps)
        return self.ig.at(x, (k + 0.5) / self.ig.steps)

    def select(self, keep: Tensor) -> None:
        """Do nothing: all images are at the same place of their paths."""


class Itself(Draw):
    """The image itself."""

    def next(self, x: Images) -> Images:
        """Return the image."""
        return x

    def select(self, keep: Tensor) -> None:
        """Do nothing."""


@register("interpreters", "inputxgrad")
class InputXGradient(PointMap):
    """Input × gradient (Shrikumar et al. 2016): |Σ colours x ⊙ ∂z_c/∂x|.

    Args:
        classifier: any differentiable classifier.
    """

    name = "inputxgrad"
    alone = True

    def __init__(self, classifier: Classifier) -> None:
        super().__init__(classifier, 1)

    def points(self, x: Images) -> Iterator[Images]:
        """Yield the image."""
        yield x

    def draw(self, x: Images) -> Draw:
        """Return the image, again and again."""
        return Itself()

    def evidence(self, gradient: Tensor, x: Images) -> Tensor:
        """Compute |Σ colours x ⊙ gradient|."""
        return torch.sum(x * gradient, 1).abs()
