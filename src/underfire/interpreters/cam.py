"""CAM: class activation maps (Zhou et al. 2016; method, section 2.6), the paper's representation-guided interpreter.

m_c(x) = min-max scaled  Σ_k w_{c,k} A_k(x)
"""

from __future__ import annotations

import torch

from underfire.core import Classifier, Goal, Images, Labels, Maps, Terms
from underfire.images import maps
from underfire.registry import register


@register("interpreters", "cam")
class Cam:
    """Class activation map at the last feature maps' own size (7×7 for a 224 px EfficientNet-Lite0).

    Args:
        classifier: one with global average pooling and a linear head.
    """

    name = "cam"
    digest = ""
    map_passes = 1.0
    step_passes = 3.0

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.head = classifier.head  # raises a clear sentence for any other classifier

    def of_features(self, features: torch.Tensor, y: Labels) -> Maps:
        """Compute maps (N, h, w) in [0, 1] from last feature maps (N, C, h, w)."""
        return maps.unit_scale(torch.einsum("nc,nchw->nhw", self.head[y], features))

    @torch.no_grad()
    def explain(self, x: Images, y: Labels) -> Maps:
        """Compute maps (N, h, w) in [0, 1] of images (N, 3, H, W) for classes ``y`` (N,)."""
        return self.of_features(self.classifier.features(x), y)

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
