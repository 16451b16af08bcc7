"""CAM: class activation maps (Zhou et al. 2016; method, section 2.6), the paper's representation-guided interpreter.

m_c(x) = min-max scaled  Σ_k w_{c,k} A_k(x)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from underfire.core import Classifier, Goal, ImageErrors, Images, Labels, Maps, Terms
from underfire.images import maps
from underfire.registry import register


@register("interpreters", "cam")
class Cam:
    """Class activation map at the last feature maps' own size (7×7 for a 224 px EfficientNet-Lite0).

    Args:
        classifier: one with global average pooling and a linear head.
    """

    name = "cam"
    family = "representation"
    digest = ""
    map_passes = 1.0
    step_passes = 3.0
    attack_options: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.head = classifier.head  # raises a clear sentence for any other classifier

    def of_features(self, features: torch.Tensor, y: Labels) -> Maps:
        """Compute maps (N, h, w) in [0, 1] from last feature maps (N, C, h, w)."""
        return maps.unit_scale(self.evidence(features, y))

    def evidence(self, features: torch.Tensor, y: Labels) -> torch.Tensor:
        """Compute Σ_k w_{c,k} A_k (N, h, w), before scaling."""
        return torch.einsum("nc,nchw->nhw", self.head[y], features)

    @torch.no_grad()
    def explain(self, x: Images, y: Labels) -> Maps:
        """Compute maps (N, h, w) in [0, 1] of images (N, 3, H, W) for classes ``y`` (N,).

        Raises:
            ImageErrors: images with the same evidence everywhere.
        """
        evidence = self.evidence(self.classifier.features(x), y)
        none = maps.flat(evidence).nonzero()[:, 0].tolist()
        if none:
            raise ImageErrors(dict.fromkeys(none, "the evidence is the same everywhere, so there is no map."))
        return maps.unit_scale(evidence)

    def surrogate(self, x: Images, goal: Goal, **options: object) -> CamSurrogate:
        """Start the attacker's side, without options: CAM is differentiable as it is."""
        return CamSurrogate(self, goal)


class CamSurrogate:
    """The attacker's side of CAM: the prediction and the map come from one forward.

    Args:
        cam: the interpreter.
        goal: the target classes and maps.
    """

    shows = True

    def __init__(self, cam: Cam, goal: Goal) -> None:
        self.cam, self.goal = cam, goal

    def terms(self, x: Images) -> Terms:
        """Compute the logits, ℓ_int as the mean squared difference, and the real maps."""
        features = self.cam.classifier.features(x)
        m = self.cam.of_features(features, self.goal.labels)
        return Terms(self.cam.classifier.scores(features), maps.l2(m, self.goal.maps[self.cam.name]), m.detach(), m)

    def advance(self, x: Images, progress: float) -> None:
        """Do nothing: there is no inner state."""

    def select(self, keep: torch.Tensor) -> None:
        """Keep only the rows ``keep``."""
        self.goal = self.goal.select(keep)
