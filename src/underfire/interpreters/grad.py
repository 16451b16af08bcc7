"""GRAD: gradient saliency (Simonyan et al. 2014), the paper's back-propagation-guided interpreter.

    m_c(x) = min-max scaled  max over colours |∂ℓ_c(x) / ∂x| ,   ℓ_c = z_c − logsumexp_{k≠c} z_k

The paper differentiates the probability p_c. ∂p_c = p_c (1−p_c) ∂ℓ_c points the same way and scales to the same map,
but in float32 it loses the class altogether once the log-odds ℓ pass about 17, which is where an attack ends; ℓ never
does.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from underfire.core import Classifier, Goal, ImageErrors, Images, Labels, Maps, Terms, UnderfireError, unknown
from underfire.images import maps
from underfire.interpreters.smooth import Slope, twin_of
from underfire.registry import register

SCORES = ("logodds", "logit")
RESOLUTIONS = ("56", "full")
POOL = 4
"""Pixels a side that share a map pixel: 224 px give the 56×56 of the published attack."""


@register("interpreters", "grad")
class Grad:
    """Gradient saliency, 56×56 for a 224 px classifier.

    Args:
        classifier: any that is differentiable.
        score: 'logodds', the paper's map; or 'logit', the unnormalised z_c of Simonyan et al. and Captum.
        resolution: '56', averaged over 4×4 pixels; or 'full', one map pixel for each image pixel.
    """

    name = "grad"
    digest = ""
    map_passes = 3.0
    step_passes = 7.0

    def __init__(self, classifier: Classifier, score: str = "logodds", resolution: str | int = "56") -> None:
        self.classifier, self.score, self.resolution = classifier, score, str(resolution)
        for what, word, known in (("score", self.score, SCORES), ("resolution", self.resolution, RESOLUTIONS)):
            if word not in known:
                raise unknown(f"grad {what}", word, known)

    def explain(self, x: Images, y: Labels) -> Maps:
        """Maps (N, h, w) in [0, 1] of ``x`` for classes ``y``."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            gradient = self.gradient(self.classifier.logits(x), x, y, create_graph=False)
        dead = ~gradient.isfinite().flatten(1).all(1) | ~gradient.flatten(1).any(1)
        if bool(dead.any()):
            rows = dead.nonzero()[:, 0].tolist()
            raise ImageErrors(dict.fromkeys(rows, "the gradient is zero or not finite, so there is no saliency map."))
        return self.of_gradient(gradient)

    def gradient(self, z: Tensor, x: Images, y: Labels, create_graph: bool) -> Tensor:
        """∂ score_c / ∂x (N, 3, H, W), from the logits ``z`` of ``x``."""
        chosen = z.gather(1, y[:, None])[:, 0]
        score = chosen - _others(z, y) if self.score == "logodds" else chosen
        return torch.autograd.grad(score.sum(), x, create_graph=create_graph)[0]

    def of_gradient(self, gradient: Tensor) -> Maps:
        """The map of a gradient."""
        m = gradient.abs().amax(1)
        if self.resolution != "full":
            m = F.avg_pool2d(m[:, None], POOL)[:, 0]
        return maps.unit_scale(m)

    def surrogate(self, x: Images, goal: Goal, **options: object) -> GradSurrogate:
        """The smoothed twin; options are those of `GradSurrogate`."""
        try:
            return GradSurrogate(self, x, goal, **options)  # type: ignore[arg-type]
        except TypeError as e:
            raise UnderfireError(f"The settings {options} do not suit grad's smoothed twin: {e}.") from e


def _others(z: Tensor, y: Labels) -> Tensor:
    """Of all classes but y, the log of the summed exponentials."""
    return z.scatter(1, y[:, None], -torch.inf).logsumexp(1)


class GradSurrogate:
    """ℓ_int of GRAD: the map as if every kink were smooth, so that it has a gradient.

    Args:
        grad: the interpreter.
        x: clean images.
        goal: the target maps.
        slope: 'monotone' or 'published'.
        tau: τ at the start, for a layer whose input spreads as EfficientNet-Lite0's do.
        tau_end: τ at the end of the search, reached geometrically; the same where not given.
        pool: whether max-pooling is smoothed too.
        power: the maps are compared as m^power; below 1 the faint parts, which are most of a saliency map, weigh more.
    """

    shows = False

    def __init__(
        self,
        grad: Grad,
        x: Images,
        goal: Goal,
        slope: str = "monotone",
        tau: float = 1e-2,
        tau_end: float | None = None,
        pool: bool = True,
        power: float = 1.0,
    ) -> None:
        self.grad, self.goal, self.pool, self.power = grad, goal, pool, power
        self.start, self.end = Slope(slope, tau), Slope(slope, tau_end or tau)
        self.slope = self.start
        self.twin = twin_of(grad.classifier, x)

    def terms(self, x: Images) -> Terms:
        """Logits and map difference; the map is not the judge's, so none is given."""
        with self.twin.smoothed(self.slope, self.pool):
            z = self.grad.classifier.logits(x)
            gradient = self.grad.gradient(z, x, self.goal.labels, create_graph=True)
        twin = m = self.grad.of_gradient(gradient)
        wanted = self.goal.maps[self.grad.name]
        if self.power != 1.0:
            tiny = 1e-4  # a power below 1 has no slope at 0
            m, wanted = (m + tiny) ** self.power, (wanted + tiny) ** self.power
        return Terms(z, maps.l2(m, wanted), None, twin)

    def advance(self, x: Images, progress: float) -> None:
        """τ moves on."""
        tau = self.start.tau * (self.end.tau / self.start.tau) ** progress
        self.slope = Slope(self.start.kind, tau)

    def select(self, keep: Tensor) -> None:
        """Keep only some rows."""
        self.goal = self.goal.select(keep)
