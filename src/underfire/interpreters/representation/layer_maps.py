"""Grad-CAM and its kin: activations of a layer, weighed by the class score's gradients there (method, section 8).

    m_c(x) = min-max scaled  evidence(A, ∂z_c/∂A)              evidence as in `formulas`

The map moves by A and by the gradient. The gradient depends on the layers behind A alone, so second derivatives are
needed from there on only: a map of the last layer costs hardly more than CAM's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from underfire.core import (
    Classifier,
    Goal,
    HasLayers,
    ImageErrors,
    Images,
    Labels,
    LayeredClassifier,
    Maps,
    Terms,
    UnsuitableError,
)
from underfire.images import maps
from underfire.interpreters.representation import formulas
from underfire.interpreters.smooth import Slope, twin_of
from underfire.registry import register
from underfire.registry.values import hints_of

NO_MAP = "the evidence for this class is the same everywhere (often 0), so there is no map."
NOT_FINITE = "the evidence for this class is not finite, so there is no map."


def layered(classifier: Classifier) -> LayeredClassifier:
    """Return a classifier whose layers can be seen.

    Raises:
        UnsuitableError: it is none.
    """
    if not isinstance(classifier, HasLayers):
        raise UnsuitableError(f"The layers of '{classifier.name}' cannot be seen: build it with underfire.wrap.")
    return classifier


def scaled(evidence: Tensor) -> Maps:
    """Scale evidence (N, h, w) to maps in [0, 1].

    Raises:
        ImageErrors: rows with the same evidence everywhere, or evidence that is not finite.
    """
    wild = ~evidence.isfinite().flatten(1).all(1)
    dead = maps.flat(evidence) | wild
    if bool(dead.any()):
        rows = dead.nonzero()[:, 0].tolist()
        raise ImageErrors({row: NOT_FINITE if bool(wild[row]) else NO_MAP for row in rows})
    return maps.unit_scale(evidence)


class LayerMap:
    """A map of one layer's activations and gradients, at the layer's own size.

    Args:
        classifier: one whose layers can be seen.
        layer: 'auto', where the library grad-cam says to look (the last grid; in a transformer the tokens after the
            last block's first normalisation); 'strideN', the last stage at that stride; or a module's name.

    Raises:
        UnderfireError: there is no such layer, or it has no grid.
    """

    name: ClassVar[str]
    formula: ClassVar[Callable[[Tensor, Tensor], Tensor]]
    digest = ""
    family = "representation"
    attack_options: ClassVar[Mapping[str, Any]]

    def __init__(self, classifier: Classifier, layer: str = "auto") -> None:
        self.classifier = layered(classifier)
        self.layer = self.classifier.layer(layer)
        self.map_passes = 1 + 2 * self.layer.behind
        self.step_passes = 3 + 4 * self.layer.behind
        self._kinked: bool | None = None

    def evidence(self, z: Tensor, a: Tensor, y: Labels, create_graph: bool) -> Tensor:
        """Compute the evidence (N, h, w) for classes ``y`` from the logits and the layer's output of one pass."""
        with torch.enable_grad():
            score = z.gather(1, y[:, None]).sum()
            g = (
                torch.autograd.grad(score, a, create_graph=create_graph, allow_unused=True)[0]
                if z.requires_grad
                else None
            )
        if g is None:
            raise UnsuitableError(
                f"The scores of '{self.classifier.name}' do not depend on layer '{self.layer.name}': choose "
                "another one."
            )
        return type(self).formula(self.layer.as_grid(a), self.layer.as_grid(g))

    def explain(self, x: Images, y: Labels) -> Maps:
        """Compute maps (N, h, w) in [0, 1] of images (N, 3, H, W) for classes ``y`` (N,).

        Raises:
            ImageErrors: images with the same evidence everywhere.
        """
        self.classifier.meter.charge(len(x), 2 * self.layer.behind)
        z, a = self.classifier.activations(x.detach(), self.layer)
        return scaled(self.evidence(z, a, y, create_graph=False).detach())

    def kinked(self, x: Images) -> bool:
        """Tell whether the network has kinks behind the layer, by one look at one of ``x``."""
        if self._kinked is None:
            behind = Behind(self.classifier, x, Slope())
            with self.classifier.meter.aside():
                self.classifier.activations(x[:1].detach(), self.layer, behind)
            self._kinked = behind.kinks > 0
        return self._kinked

    def surrogate(self, x: Images, goal: Goal, **options: Any) -> LayerMapSurrogate:
        """Start the attacker's side; options are those of `LayerMapSurrogate`."""
        return LayerMapSurrogate(self, x, goal, **options)


class Behind:
    """The smoothed twin of what comes after a layer.

    Args:
        classifier: any.
        x: images of its size, type and device.
        slope: the stand-in for the step function.
    """

    def __init__(self, classifier: Classifier, x: Images, slope: Slope) -> None:
        self.twin, self.slope = twin_of(classifier, x), slope
        self.kinks = 0
        """Number of kinks that the last pass has met."""

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Make the context in which the rest of the network runs."""
        with self.twin.smoothed(self.slope) as mode:
            yield
        self.kinks = mode.kinks


class LayerMapSurrogate:
    """The attacker's side: the same map with a graph, and smooth slopes at the kinks behind the layer.

    Args:
        interpreter: whose map it is.
        x: clean images (N, 3, H, W).
        goal: the target classes and maps.
        tau: τ of the smooth slopes.
        top: weight of the edge of the brightest fifth (`maps.crossed`).
    """

    def __init__(
        self,
        interpreter: LayerMap,
        x: Images,
        goal: Goal,
        tau: Annotated[float, Field(gt=0)] = 1e-2,
        top: Annotated[float, Field(ge=0)] = 0.0,
    ) -> None:
        self.top = top
        self.interpreter, self.goal = interpreter, goal
        self.behind = Behind(interpreter.classifier, x, Slope(tau=tau))
        self.shows = not interpreter.kinked(x)
        """Without kinks behind the layer the twin's map is the real one."""

    def terms(self, x: Images) -> Terms:
        """Compute the logits, ℓ_int as the mean squared difference, and the maps."""
        one = self.interpreter
        one.classifier.meter.charge(len(x), 4 * one.layer.behind)
        z, a = one.classifier.activations(x, one.layer, self.behind)
        m = maps.unit_scale(one.evidence(z, a, self.goal.labels, create_graph=True))
        loss = maps.apart(m, self.goal.maps[one.name], self.top)
        return Terms(z, loss, m.detach() if self.shows else None, m)

    def advance(self, x: Images, progress: float) -> None:
        """Do nothing: there is no inner state."""

    def select(self, keep: Tensor) -> None:
        """Keep only the rows ``keep``."""
        self.goal = self.goal.select(keep)


LayerMap.attack_options = hints_of(LayerMapSurrogate, but=("interpreter", "x", "goal"))


@register("interpreters", "gradcam")
class GradCam(LayerMap):
    """Grad-CAM (Selvaraju et al. 2017)."""

    name = "gradcam"
    formula = formulas.grad_cam


@register("interpreters", "hirescam")
class HiResCam(LayerMap):
    """HiResCAM (Draelos & Carin 2020)."""

    name = "hirescam"
    formula = formulas.hires_cam


@register("interpreters", "gradcam++")
class GradCamPlusPlus(LayerMap):
    """Grad-CAM++ (Chattopadhay et al. 2018)."""

    name = "gradcam++"
    formula = formulas.grad_cam_plus_plus


@register("interpreters", "layercam")
class LayerCam(LayerMap):
    """LayerCAM (Jiang et al. 2021)."""

    name = "layercam"
    formula = formulas.layer_cam
