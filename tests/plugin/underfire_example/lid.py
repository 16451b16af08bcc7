from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from underfire.core import Classifier, PerImage
from underfire.defenses.sight import Sight


class Lid:
    """Local intrinsic dimensionality of the last features among benign ones (Ma et al. 2018)."""

    name, passes, looks = "lid", 1.0, 0
    members: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, classifier: Classifier, neighbours: int = 10) -> None:
        self.classifier, self.neighbours = classifier, neighbours

    def evidence(self, see: Sight) -> Tensor:
        return self.classifier.features(see.x).mean((2, 3))

    def learn(self, evidence: Tensor) -> Mapping[str, Any]:
        return {"benign": evidence.tolist()}

    def score(self, evidence: Tensor, learnt: Mapping[str, Any]) -> PerImage:
        benign = evidence.new_tensor(learnt["benign"])
        r = torch.cdist(evidence, benign).clamp_min(1e-6).sort(1).values[:, : self.neighbours]
        return -1 / (r / r[:, -1:]).log().mean(1).clamp_max(-1e-6)
