"""A map of the mean gradient over many points, and the attack on it, which looks at a few points at each step.

    m_c(x) = min-max scaled  of( mean_p ∂z_c(x_p)/∂x_p ,  x )        x_p: points that depend on x

The victim takes all of its points. The attacker looks at a few of them at each step, in turn, and keeps the gradients
at the latest: the value of his mean gradient is that over all of these, its slope that of the new ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from underfire.core import Classifier, Goal, ImageErrors, Images, Labels, Maps, Terms
from underfire.images import maps
from underfire.interpreters.cells import by_cells, celled
from underfire.interpreters.drawn import stride
from underfire.interpreters.smooth import Slope, twin_of
from underfire.registry.values import hints_of


class Points(ABC):
    """The points of a batch of images, as functions of the images.

    Attributes:
        n: how many there are.
    """

    n: int

    @abstractmethod
    def at(self, x: Images, k: int) -> Images:
        """Compute the k-th point (N, 3, H, W) of images ``x``."""


class PointMap(ABC):
    """A map of the mean gradient over points; 56×56 for a 224 px classifier.

    Args:
        classifier: any differentiable classifier.
        points: how many points the victim takes.
    """

    name: ClassVar[str]
    digest = "draws 2"
    """Version of what it draws: of its own noise, and of the attack's points."""
    family = "back-propagation"
    attack_options: ClassVar[Mapping[str, Any]]
    alone: ClassVar[bool] = False
    """Whether the one point is the image itself."""

    def __init__(self, classifier: Classifier, points: int) -> None:
        self.classifier, self.digest = classifier, celled(self.digest, classifier)
        self.map_passes = 3.0 * points
        self.step_passes = 7.0 if self.alone else 3.0 + 7.0 * DRAWS

    @abstractmethod
    def points(self, x: Images) -> Points:
        """Make the victim's points for images like ``x``."""

    def guessed(self, x: Images) -> Points:
        """Make the points of an attacker who does not know what the victim has drawn."""
        return self.points(x)

    @abstractmethod
    def evidence(self, gradient: Tensor, x: Images) -> Tensor:
        """Compute the evidence (N, H, W) of the mean gradient (N, 3, H, W) at images ``x``."""

    def gradient(self, z: Tensor, at: Images, y: Labels, create_graph: bool = False) -> Tensor:
        """Compute ∂z_c/∂x (N, 3, H, W) from the logits ``z`` of the points ``at``."""
        return torch.autograd.grad(z.gather(1, y[:, None]).sum(), at, create_graph=create_graph)[0]

    def of_gradient(self, gradient: Tensor, x: Images) -> Maps:
        """Compute maps (N, h, w) in [0, 1] of the mean gradient."""
        return maps.unit_scale(by_cells(self.evidence(gradient, x)))

    def explain(self, x: Images, y: Labels) -> Maps:
        """Compute maps (N, h, w) in [0, 1] of images (N, 3, H, W) for classes ``y`` (N,).

        Raises:
            ImageErrors: images whose evidence is the same everywhere, or not finite.
        """
        total, points = torch.zeros_like(x), self.points(x.detach())
        for k in range(points.n):
            with torch.enable_grad():
                at = points.at(x.detach(), k).detach().requires_grad_()
                total = total + self.gradient(self.classifier.logits(at), at, y) / points.n
        evidence = self.evidence(total, x.detach())
        dead = maps.flat(evidence) | maps.flat(by_cells(evidence)) | ~evidence.isfinite().flatten(1).all(1)
        if bool(dead.any()):
            why = f"{self.name}'s evidence is the same everywhere or not finite, so there is no map."
            raise ImageErrors(dict.fromkeys(dead.nonzero()[:, 0].tolist(), why))
        return self.of_gradient(total, x.detach())

    def surrogate(self, x: Images, goal: Goal, **options: Any) -> PointSurrogate:
        """Start the attacker's side; options are those of `PointSurrogate`."""
        return PointSurrogate(self, x, goal, **options)


DRAWS = 2
"""Points that the attacker looks at in a step."""


class PointSurrogate:
    """The attacker's side: the gradients at a few points, with a graph and smooth slopes at all kinks.

    Args:
        interpreter: whose map it is.
        x: clean images (N, 3, H, W).
        goal: the target classes and maps.
        draws: points that are looked at in a step.
        memory: points whose last gradients are kept. Those of long ago are of another picture: with all 32 of ig's path
            the map's distance was 0.43 of PGD's, with the latest 16 it was 0.34 (12 photos).
        known: whether the attacker knows what the victim has drawn; else he draws points of the same kind anew.
        tau: τ of the smooth slopes.
        pool: whether max-pooling is smoothed too.
        by_layer: whether τ is in units of each layer.
        top: weight of the edge of the brightest fifth (`maps.crossed`).
    """

    shows = False

    def __init__(
        self,
        interpreter: PointMap,
        x: Images,
        goal: Goal,
        draws: Annotated[int, Field(ge=1)] = DRAWS,
        memory: Annotated[int, Field(ge=1)] = 16,
        known: bool = True,
        tau: Annotated[float, Field(gt=0)] = 1e-2,
        pool: bool = True,
        by_layer: bool = False,
        top: Annotated[float, Field(ge=0)] = 0.0,
    ) -> None:
        self.by_layer = by_layer
        self.interpreter, self.goal, self.pool, self.slope = interpreter, goal, pool, Slope(tau=tau)
        self.points = interpreter.points(x) if known else interpreter.guessed(x)
        self.twin, self.draws, self.memory = twin_of(interpreter.classifier, x), draws, max(memory, draws)
        self.taken, self.top = 0, top
        self.last: dict[int, Tensor] = {}
        """The last gradient (N, 3, H, W) at each of the latest points, the oldest first."""

    def terms(self, x: Images) -> Terms:
        """Compute the logits and ℓ_int at the next points; the map here is not the judge's, so it is the twin only."""
        one = self.interpreter
        z, mean = self._alone(x) if one.alone else (one.classifier.logits(x), self._mean(x))
        m = one.of_gradient(mean, x)
        return Terms(z, maps.apart(m, self.goal.maps[one.name], self.top), None, m)

    def _mean(self, x: Images) -> Tensor:
        """Compute the mean gradient: its value over the latest points, its slope that of the next ones."""
        new = {k: self._at(x, k) for k in self._next()}
        kept = [(k, g) for k, g in self.last.items() if k not in new]
        kept += [(k, g.detach()) for k, g in new.items()]
        self.last = dict(kept[-self.memory :])
        slope = torch.stack([*new.values()]).mean(0)
        return torch.stack([*self.last.values()]).mean(0) + (slope - slope.detach())

    def _next(self) -> list[int]:
        """Take the next points, spread evenly over all."""
        n = self.points.n
        taken = range(self.taken, self.taken + min(self.draws, n))
        self.taken += len(taken)
        return [k * stride(n) % n for k in taken]

    def _at(self, x: Images, k: int) -> Tensor:
        """Compute the gradient at the k-th point."""
        point = self.points.at(x, k)
        with self.twin.smoothed(self.slope, self.pool, self.by_layer):
            z = self.interpreter.classifier.logits(point)
            return self.interpreter.gradient(z, point, self.goal.labels, create_graph=True)

    def _alone(self, x: Images) -> tuple[Tensor, Tensor]:
        """Compute logits and gradient at the image itself, from one forward."""
        with self.twin.smoothed(self.slope, self.pool, self.by_layer):
            z = self.interpreter.classifier.logits(x)
            return z, self.interpreter.gradient(z, x, self.goal.labels, create_graph=True)

    def advance(self, x: Images, progress: float) -> None:
        """Do nothing: `terms` takes other points each time."""

    def select(self, keep: Tensor) -> None:
        """Keep only the rows ``keep``."""
        self.goal = self.goal.select(keep)
        self.last = {k: g[keep] for k, g in self.last.items()}


def options_but(*without: str) -> Mapping[str, Any]:
    """Give the settings of `PointSurrogate`, but for those that change nothing for an interpreter."""
    return hints_of(PointSurrogate, but=("interpreter", "x", "goal", *without))


PointMap.attack_options = options_but()
