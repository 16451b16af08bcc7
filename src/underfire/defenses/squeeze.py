"""Feature squeezing (Xu et al. 2018) with interpreters along: a picture, against squeezed copies of it.

What an attack puts into a picture to move prediction and maps is in the finest detail; what a camera saw is not. Every
member explains the picture and each copy, both for the class c that is predicted for the picture:

    d_0   −log p_c of the copy; or ‖p(copy) − p‖₁ over all classes, as published (`measure: l1`)
    d_i   1 − Pearson correlation of member i's two maps, averaged over 7×7 cells
    v     log(d + 0.02)
    s     min over u ≤ μ of (v − u)ᵀ Σ⁻¹ (v − u)        μ and Σ of v on benign images

The score s is the Mahalanobis distance of v from all points that agree at least as well as an average benign image.
Without maps (`maps: false`) only the d_0 of the copies count: no interpreter is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from underfire.core import Classifier, Images, Interpreter, Maps, PerImage, UnderfireError
from underfire.defenses.detector import Learnt
from underfire.defenses.sight import Sight
from underfire.defenses.squeezers import SQUEEZERS
from underfire.defenses.statistic import logarithm, moments, one_sided, unlike
from underfire.registry import register

MEMBERS = ("cam", "grad", "rts")
"""Members by default: three with cheap maps."""


@register("defenses", "squeeze")
class Squeeze:
    """Feature squeezing (Xu et al. 2018): does prediction or map change in a squeezed copy?

    Args:
        classifier: the classifier.
        members: name -> interpreter.
        by: squeezers; by default the blur.
        maps: whether maps count, beside the prediction.
        measure: what counts of the prediction: 'log-p' or 'l1'.

    Raises:
        UnderfireError: no squeezer, or one twice; maps without a member, or members without maps.
    """

    name = "squeeze"

    def __init__(
        self,
        classifier: Classifier,
        members: Mapping[str, Interpreter],
        by: Sequence[Literal["blur", "bits", "median"]] = ("blur",),
        maps: bool = True,
        measure: Literal["log-p", "l1"] = "log-p",
    ) -> None:
        names: tuple[str, ...] = (by,) if isinstance(by, str) else tuple(by)
        if not names or len(set(names)) < len(names):
            raise UnderfireError(f"squeeze.by={','.join(by)}: name one or more of {', '.join(SQUEEZERS)}, each once.")
        if maps is not bool(members):
            raise UnderfireError("squeeze.maps: name members with --interpreter, or none with squeeze.maps=false.")
        self.classifier, self.members, self.by, self.measure = classifier, dict(members), names, measure
        self.looks = 1 + len(names)
        of_members = sum(member.map_passes for member in self.members.values())
        self.passes = len(names) * (1 + (measure == "l1")) + self.looks * of_members
        self.labels = tuple(f"{part} under {one}" for one in names for part in ("prediction", *self.members))

    @staticmethod
    def usual(options: Mapping[str, Any]) -> tuple[str, ...]:
        """Name the members by default."""
        return MEMBERS if options.get("maps", True) else ()

    def evidence(self, see: Sight) -> Tensor:
        """Compute d (N, copies × (1 + members)), copy by copy."""
        shown: list[Maps] = see.maps(see.x) if self.members else []
        parts: list[Tensor] = []
        for one in self.by:
            copy = SQUEEZERS[one](see.x)
            moved = self._moved(see, copy)
            again = see.maps(copy) if self.members else []
            of_maps = [unlike(m, m_copy) for m, m_copy in zip(shown, again, strict=True)]
            parts += [moved.to(of_maps[0] if of_maps else moved), *of_maps]
        return torch.stack(parts, 1)

    def _moved(self, see: Sight, copy: Images) -> PerImage:
        """Measure how far the prediction (N,) of a copy is from the picture's."""
        if self.measure == "log-p":
            return -see.log_p(copy)
        return (see.probabilities(copy) - see.probabilities(see.x)).abs().sum(1)

    def learn(self, evidence: Tensor) -> Learnt:
        """Learn μ and Σ of v."""
        mean, covariance = moments(logarithm(evidence))
        return {"mean": mean.tolist(), "covariance": covariance.tolist()}

    def score(self, evidence: Tensor, learnt: Learnt) -> PerImage:
        """Compute s (N,)."""
        mean, covariance = (evidence.new_tensor(learnt[name]) for name in ("mean", "covariance"))
        return one_sided(logarithm(evidence) - mean, covariance)

    def unusual(self, evidence: Tensor, learnt: Learnt) -> Tensor:
        """Tell by how many standard deviations each distance is above its benign mean."""
        mean, covariance = (evidence.new_tensor(learnt[name]) for name in ("mean", "covariance"))
        return (logarithm(evidence) - mean) / covariance.diag().sqrt()

    def where(self, see: Sight, column: int) -> Maps:
        """Show where a member's map of the copy is not that of the picture; of a prediction, where pixels differ."""
        copy = SQUEEZERS[self.by[column // (1 + len(self.members))]](see.x)
        member = column % (1 + len(self.members)) - 1
        if member < 0:
            return (see.x - copy).abs().amax(1)
        return (see.maps(see.x)[member] - see.maps(copy)[member]).abs()
