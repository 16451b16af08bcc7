"""GRAD: gradient saliency (Simonyan et al. 2014; method, section 2.5), the paper's back-propagation-guided interpreter.

    m_c(x) = min-max scaled  max over colours |∂ℓ_c(x) / ∂x| ,   ℓ_c = z_c − logsumexp_{k≠c} z_k

On labels of their own ℓ_c = z_c: always the log-odds of p_c, as the classifier's head has them (`underfire.heads`).

The paper differentiates the probability p_c. ∂p_c = p_c (1−p_c) ∂ℓ_c has the same direction and, scaled, gives the same
map. But in float32 the class term is lost once ℓ_c passes about 17, which is where attacks end; ℓ_c keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from underfire.core import Classifier, Goal, ImageErrors, Images, Labels, Maps, Terms, UnderfireError, unknown
from underfire.heads import head_of
from underfire.images import maps
from underfire.interpreters.cells import by_cells, celled
from underfire.interpreters.smooth import Slope, twin_of
from underfire.registry import register
from underfire.registry.values import hints_of

SCORES = ("logodds", "logit")
"""Scores whose gradient can be shown."""
RESOLUTIONS = ("56", "full")
"""Sizes of the map."""
NO_MAP = "the gradient is the same everywhere (often 0) or not finite, so there is no saliency map."


@register("interpreters", "grad")
class Grad:
    """Gradient saliency, 56×56 for a 224 px classifier.

    Args:
        classifier: any differentiable classifier.
        score: 'logodds', the paper's map; or 'logit', the unnormalised z_c of Simonyan et al. and Captum.
        resolution: '56', averaged over 4×4 pixels; or 'full', one map pixel for each image pixel.

    Raises:
        UnderfireError: an unknown score or resolution.
    """

    name = "grad"
    family = "back-propagation"
    map_passes = 3.0
    step_passes = 7.0
    attack_options: ClassVar[Mapping[str, Any]]

    def __init__(self, classifier: Classifier, score: str = "logodds", resolution: str | int = "56") -> None:
        self.classifier, self.score, self.resolution = classifier, score, str(resolution)
        self.head = head_of(classifier)
        self.digest = "" if self.resolution == "full" else celled("", classifier)
        for what, word, known in (("score", self.score, SCORES), ("resolution", self.resolution, RESOLUTIONS)):
            if word not in known:
                raise unknown(f"grad {what}", word, known)

    def explain(self, x: Images, y: Labels) -> Maps:
        """Compute maps (N, h, w) in [0, 1] of images (N, 3, H, W) for classes ``y`` (N,).

        Raises:
            ImageErrors: images whose gradient is the same everywhere, or not finite.
        """
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            gradient = self.gradient(self.classifier.logits(x), x, y, create_graph=False)
        dead = ~gradient.isfinite().flatten(1).all(1) | maps.flat(self.evidence(gradient))
        if bool(dead.any()):
            rows = dead.nonzero()[:, 0].tolist()
            raise ImageErrors(dict.fromkeys(rows, NO_MAP))
        return self.of_gradient(gradient)

    def gradient(self, z: Tensor, x: Images, y: Labels, create_graph: bool) -> Tensor:
        """Compute ∂ score_c / ∂x (N, 3, H, W) from the logits ``z`` (N, K) of ``x``."""
        score = self.head.log_odds(z, y) if self.score == "logodds" else z.gather(1, y[:, None])[:, 0]
        return torch.autograd.grad(score.sum(), x, create_graph=create_graph)[0]

    def of_gradient(self, gradient: Tensor) -> Maps:
        """Compute the maps (N, h, w) of gradients (N, 3, H, W)."""
        return maps.unit_scale(self.evidence(gradient))

    def evidence(self, gradient: Tensor) -> Tensor:
        """Compute what is scaled: the largest |gradient| over colours (N, h, w)."""
        m = gradient.abs().amax(1)
        return m if self.resolution == "full" else by_cells(m)

    def surrogate(self, x: Images, goal: Goal, **options: object) -> GradSurrogate:
        """Start the attacker's side; options are those of `GradSurrogate`.

        Raises:
            UnderfireError: an option that it does not have.
        """
        try:
            return GradSurrogate(self, x, goal, **options)  # type: ignore[arg-type]
        except TypeError as e:
            raise UnderfireError(f"The settings {options} do not suit grad's smoothed twin: {e}.") from e


class GradSurrogate:
    """The attacker's side of GRAD: its map with smooth slopes at all kinks, so that the map has a gradient.

    Args:
        grad: the interpreter.
        x: clean images (N, 3, H, W).
        goal: the target classes and maps.
        slope: 'monotone' or 'published'.
        tau: τ at the start of the search.
        tau_end: τ at its end, reached geometrically; None: τ stays.
        pool: whether max-pooling is smoothed too.
        by_layer: whether τ is in units of the spread of each layer's input; 1 for a usual layer of EfficientNet-Lite0.
        power: exponent; m^power is compared. Below 1 the faint pixels count more, and a saliency map has many of them.
    """

    shows = False

    def __init__(
        self,
        grad: Grad,
        x: Images,
        goal: Goal,
        slope: Literal["monotone", "published"] = "monotone",
        tau: Annotated[float, Field(gt=0)] = 1e-2,
        tau_end: Annotated[float, Field(gt=0)] | None = None,
        pool: bool = True,
        by_layer: bool = False,
        power: Annotated[float, Field(gt=0)] = 1.0,
    ) -> None:
        self.grad, self.goal, self.pool, self.power = grad, goal, pool, power
        self.start, self.end = Slope(slope, tau), Slope(slope, tau_end or tau)
        self.slope, self.by_layer = self.start, by_layer
        self.twin = twin_of(grad.classifier, x)

    def terms(self, x: Images) -> Terms:
        """Compute the logits and ℓ_int; the map here is not the judge's, so it is given as the twin only."""
        with self.twin.smoothed(self.slope, self.pool, self.by_layer):
            z = self.grad.classifier.logits(x)
            gradient = self.grad.gradient(z, x, self.goal.labels, create_graph=True)
        twin = m = self.grad.of_gradient(gradient)
        wanted = self.goal.maps[self.grad.name]
        if self.power != 1.0:
            tiny = 1e-4  # a power below 1 has no slope at 0
            m, wanted = (m + tiny) ** self.power, (wanted + tiny) ** self.power
        return Terms(z, maps.l2(m, wanted), None, twin)

    def advance(self, x: Images, progress: float) -> None:
        """Move τ on."""
        tau = self.start.tau * (self.end.tau / self.start.tau) ** progress
        self.slope = Slope(self.start.kind, tau)

    def select(self, keep: Tensor) -> None:
        """Keep only the rows ``keep``."""
        self.goal = self.goal.select(keep)


Grad.attack_options = hints_of(GradSurrogate, but=("grad", "x", "goal"))
