"""Attention rollout and attention relevance: what the class token has looked at, through all blocks.

A prediction that averages the patches reads no class token, whether the network has one or not: then it is what the
patches have looked at.

rollout     R = Π_l ½ (Ā_l + I)                              Ā: mean over heads; it does not depend on the class
relevance   R ← R + mean over heads( relu(∇A_l ⊙ A_l) ) R    from R = I;  ∇A = ∂z_c/∂A
m_c(x)      = min-max scaled  R[class token, patches]        where none is read, the mean of R[patches, patches]
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from underfire.core import Classifier, Goal, Images, Labels, Maps, Terms
from underfire.images import maps
from underfire.interpreters.representation.layer_maps import layered, scaled
from underfire.interpreters.smooth import Slope, twin_of
from underfire.registry import register
from underfire.registry.values import hints_of


class AttentionMap(ABC):
    """A map of attention, one pixel for each patch.

    Args:
        classifier: a transformer whose tokens all attend to each other (timm, transformers, torchvision, CLIP).

    Raises:
        UnderfireError: it is none.
    """

    name: ClassVar[str]
    digest = ""
    family = "representation"
    second_order: ClassVar[bool]
    attack_options: ClassVar[Mapping[str, Any]]

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = layered(classifier)
        self.grid = h, w = self.classifier.patches()
        read = self.classifier.tokens_read()
        others, unread = len(read) > h * w, any(read) and not read[0]
        self.by_first = others and not unread
        """Whether the map is the row of the first token."""
        # Earlier versions showed a class token or a register even where the prediction does not read it.
        self.digest = "patches that are read" if others and unread else ""
        self.map_passes = 3.0 if self.second_order else 1.0
        self.step_passes = 7.0 if self.second_order else 3.0

    @abstractmethod
    def flows(self, z: Tensor, attention: list[Tensor], y: Labels, create_graph: bool) -> Tensor:
        """Compute R (N, T, T) from the logits and the attention of one pass."""

    def evidence(
        self, x: Images, y: Labels, create_graph: bool, around: AbstractContextManager[object] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute the logits and the evidence (N, h, w) of images, from one pass; the network runs in ``around``."""
        with torch.enable_grad():
            with around or nullcontext():
                z, attention = self.classifier.attention(x if x.requires_grad else x.detach().requires_grad_())
            r = self.flows(z, attention, y, create_graph)
        h, w = self.grid
        extra = r.shape[-1] - h * w
        row = r[:, 0] if self.by_first else r[:, extra:].mean(1)
        return z, row[:, extra:].reshape(-1, h, w)

    def explain(self, x: Images, y: Labels) -> Maps:
        """Compute maps (N, h, w) in [0, 1] of images (N, 3, H, W) for classes ``y`` (N,).

        Raises:
            ImageErrors: images with the same evidence everywhere.
        """
        self.classifier.meter.charge(len(x), self.map_passes - 1)
        return scaled(self.evidence(x.detach(), y, create_graph=False)[1].detach())

    def surrogate(self, x: Images, goal: Goal, tau: float = 1e-2) -> AttentionSurrogate:
        """Start the attacker's side; options are those of `AttentionSurrogate`."""
        return AttentionSurrogate(self, x, goal, tau)


class AttentionSurrogate:
    """The attacker's side: the real map with a graph; kinks of the network have smooth slopes.

    Args:
        interpreter: whose map it is.
        x: clean images (N, 3, H, W).
        goal: the target classes and maps.
        tau: τ of the smooth slopes.
    """

    def __init__(
        self, interpreter: AttentionMap, x: Images, goal: Goal, tau: Annotated[float, Field(gt=0)] = 1e-2
    ) -> None:
        self.interpreter, self.goal, self.slope = interpreter, goal, Slope(tau=tau)
        self.twin = twin_of(interpreter.classifier, x) if interpreter.second_order else None
        self.shows = self.twin is None or not self.twin.spreads
        """A network without kinks, as most transformers are, or a map that is no gradient: the map is the real one."""

    def terms(self, x: Images) -> Terms:
        """Compute the logits, ℓ_int as the mean squared difference, and the maps."""
        one = self.interpreter
        one.classifier.meter.charge(len(x), one.step_passes - 3)
        around = None if self.twin is None else self.twin.smoothed(self.slope)
        z, evidence = one.evidence(x, self.goal.labels, create_graph=True, around=around)
        m = maps.unit_scale(evidence)
        return Terms(z, maps.l2(m, self.goal.maps[one.name]), m.detach() if self.shows else None, m)

    def advance(self, x: Images, progress: float) -> None:
        """Do nothing: there is no inner state."""

    def select(self, keep: Tensor) -> None:
        """Keep only the rows ``keep``."""
        self.goal = self.goal.select(keep)


AttentionMap.attack_options = hints_of(AttentionSurrogate, but=("interpreter", "x", "goal"))


def by_head(a: Tensor, n: int) -> Tensor:
    """View attention (N, heads, T, T) or (N·heads, T, T) of ``n`` images as the first."""
    return a if a.dim() == 4 else a.view(n, -1, *a.shape[1:])


@register("interpreters", "rollout")
class Rollout(AttentionMap):
    """Attention rollout (Abnar & Zuidema 2020)."""

    name = "rollout"
    second_order = False

    def flows(self, z: Tensor, attention: list[Tensor], y: Labels, create_graph: bool) -> Tensor:
        """Compute Π_l ½ (Ā_l + I), rows normalised."""
        eye = torch.eye(attention[0].shape[-1]).to(z)
        r = eye.expand(len(z), -1, -1)
        for a in attention:
            mixed = by_head(a, len(z)).mean(1) + eye
            r = mixed / mixed.sum(-1, keepdim=True) @ r
        return r


@register("interpreters", "relevance")
class Relevance(AttentionMap):
    """Attention relevance (Chefer et al. 2021, the bi-modal paper, for one modality)."""

    name = "relevance"
    second_order = True

    def flows(self, z: Tensor, attention: list[Tensor], y: Labels, create_graph: bool) -> Tensor:
        """Compute R ← R + mean over heads( relu(∇A ⊙ A) ) R, block by block."""
        score = z.gather(1, y[:, None]).sum()
        gradients = torch.autograd.grad(score, attention, create_graph=create_graph)
        r = torch.eye(attention[0].shape[-1]).to(z).expand(len(z), -1, -1)
        for a, g in zip(attention, gradients, strict=True):
            r = r + by_head((g * a).relu(), len(z)).mean(1) @ r
        return r
