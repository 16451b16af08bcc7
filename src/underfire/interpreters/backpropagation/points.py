"""A map of the mean gradient over many points, and the attack on it, which looks at a few points at each step.

    m_c(x) = min-max scaled  of( mean_p ∂z_c(x_p)/∂x_p ,  x )        x_p: points that depend on x

The victim takes all of its points. The attacker draws a few anew at each step and keeps those of the steps before: the
value of his mean gradient is that over all of these, its slope that of the new ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from underfire.core import Classifier, Goal, ImageErrors, Images, Labels, Maps, Terms
from underfire.images import maps
from underfire.interpreters.smooth import Slope, twin_of
from underfire.registry.values import hints_of

POOL = 4
"""Side of the square of pixels that becomes one map pixel, as in GRAD."""


class Draw(ABC):
    """The attacker's points around the present images, drawn step by step."""

    @abstractmethod
    def next(self, x: Images) -> Images:
        """Draw the next point (N, 3, H, W) of each image, as a function of ``x``."""

    @abstractmethod
    def select(self, keep: Tensor) -> None:
        """Keep only the rows ``keep``."""


class PointMap(ABC):
    """A map of the mean gradient over points; 56×56 for a 224 px classifier.

    Args:
        classifier: any differentiable classifier.
        points: how many points the victim takes.
    """

    name: ClassVar[str]
    digest = ""
    family = "back-propagation"
    attack_options: ClassVar[Mapping[str, Any]]
    alone: ClassVar[bool] = False
    """Whether the one point is the image itself."""

    def __init__(self, classifier: Classifier, points: int) -> None:
        self.classifier = classifier
        self.map_passes = 3.0 * points
        self.step_passes = 7.0 if self.alone else 3.0 + 7.0 * DRAWS

    @abstractmethod
    def points(self, x: Images) -> Iterator[Images]:
        """Yield the victim's points (N, 3, H, W)."""

    @abstractmethod
    def draw(self, x: Images) -> Draw:
        """Start the attacker's draws for clean images ``x``."""

    @abstractmethod
    def evidence(self, gradient: Tensor, x: Images) -> Tensor:
        """Compute the evidence (N, H, W) of the mean gradient (N, 3, H, W) at images ``x``."""

    def gradient(self, z: Tensor, at: Images, y: Labels, create_graph: bool = False) -> Tensor:
        """Compute ∂z_c/∂x (N, 3, H, W) from the logits ``z`` of the points ``at``."""
        return torch.autograd.grad(z.gather(1, y[:, None]).sum(), at, create_graph=create_graph)[0]

    def of_gradient(self, gradient: Tensor, x: Images) -> Maps:
        """Compute maps (N, h, w) in [0, 1] of the mean gradient."""
        return maps.unit_scale(F.avg_pool2d(self.evidence(gradient, x)[:, None], POOL)[:, 0])

    def explain(self, x: Images, y: Labels) -> Maps:
        """Compute maps (N, h, w) in [0, 1] of images (N, 3, H, W) for classes ``y`` (N,).

        Raises:
            ImageErrors: images whose evidence is the same everywhere, or not finite.
        """
        total, n = torch.zeros_like(x), 0
        for point in self.points(x.detach()):
            with torch.enable_grad():
                at = point.detach().requires_grad_()
                total, n = total + self.gradient(self.classifier.logits(at), at, y), n + 1
        evidence = self.evidence(total / n, x.detach())
        dead = maps.flat(evidence) | ~evidence.isfinite().flatten(1).all(1)
        if bool(dead.any()):
            why = f"{self.name}'s evidence is the same everywhere or not finite, so there is no map."
            raise ImageErrors(dict.fromkeys(dead.nonzero()[:, 0].tolist(), why))
        return self.of_gradient(total / n, x.detach())

    def surrogate(self, x: Images, goal: Goal, **options: Any) -> PointSurrogate:
        """Start the attacker's side; options are those of `PointSurrogate`."""
        return PointSurrogate(self, x, goal, **options)


DRAWS = 2
"""Points that the attacker draws at a step."""


class PointSurrogate:
    """The attacker's side: the gradients at a few points, with a graph and smooth slopes at all kinks.

    Args:
        interpreter: whose map it is.
        x: clean images (N, 3, H, W).
        goal: the target classes and maps.
        draws: points that are drawn at each step.
        memory: points of this step and of those before that the map is made of.
        tau: τ of the smooth slopes.
        pool: whether max-pooling is smoothed too.
    """

    shows = False

    def __init__(
        self,
        interpreter: PointMap,
        x: Images,
        goal: Goal,
        draws: Annotated[int, Field(ge=1)] = DRAWS,
        memory: Annotated[int, Field(ge=1)] = 16,
        tau: Annotated[float, Field(gt=0)] = 1e-2,
        pool: bool = True,
    ) -> None:
        self.interpreter, self.goal, self.pool, self.slope = interpreter, goal, pool, Slope(tau=tau)
        self.twin, self.drawn, self.draws = twin_of(interpreter.classifier, x), interpreter.draw(x), draws
        self.earlier: deque[Tensor] = deque(maxlen=max(0, memory - draws))

    def terms(self, x: Images) -> Terms:
        """Compute the logits and ℓ_int at the next points; the map here is not the judge's, so it is the twin only."""
        one = self.interpreter
        z, new = self._alone(x) if one.alone else (one.classifier.logits(x), [self._at(x) for _ in range(self.draws)])
        mean = torch.stack(new).mean(0)
        if self.earlier and not one.alone:
            value = torch.stack([*(g.detach() for g in new), *self.earlier]).mean(0)
            mean = value + (mean - mean.detach())
        self.earlier.extend(g.detach() for g in new)
        m = one.of_gradient(mean, x)
        return Terms(z, maps.l2(m, self.goal.maps[one.name]), None, m)

    def _at(self, x: Images) -> Tensor:
        """Compute the gradient at the next point."""
        point = self.drawn.next(x)
        with self.twin.smoothed(self.slope, self.pool):
            z = self.interpreter.classifier.logits(point)
            return self.interpreter.gradient(z, point, self.goal.labels, create_graph=True)

    def _alone(self, x: Images) -> tuple[Tensor, list[Tensor]]:
        """Compute logits and gradient at the image itself, from one forward."""
        with self.twin.smoothed(self.slope, self.pool):
            z = self.interpreter.classifier.logits(x)
            return z, [self.interpreter.gradient(z, x, self.goal.labels, create_graph=True)]

    def advance(self, x: Images, progress: float) -> None:
        """Do nothing: `terms` has drawn."""

    def select(self, keep: Tensor) -> None:
        """Keep only the rows ``keep``."""
        self.goal = self.goal.select(keep)
        self.drawn.select(keep)
        self.earlier = deque((g[keep] for g in self.earlier), self.earlier.maxlen)


PointMap.attack_options = hints_of(PointSurrogate, but=("interpreter", "x", "goal"))
