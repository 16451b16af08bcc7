"""The ensemble of complementary interpreters (paper, section 5.3): an alarm where their maps disagree with each other.

    d_ij   1 − Pearson correlation of the maps of members i and j of one picture, averaged over 7×7 cells
    v      log(d + 0.02)
    s      rᵀ Σ⁻¹ r,  r = v − μ                        μ and Σ of v on benign images, over all pairs; of `more` and
                                                       `less` the one-sided distance (`statistic.one_sided`)

A picture that was forged for one interpreter shows another map in the others (low transfer). Benign maps of different
kinds differ too, each pair in its own way, which μ and Σ say. Pairs that agree *more* than benign ones are as odd as
those that agree less, and more frequent under attack (docs/defenses.md): `odd` chooses what counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from underfire.core import Classifier, Interpreter, Maps, PerImage, UnderfireError
from underfire.defenses.detector import Learnt
from underfire.defenses.sight import Sight
from underfire.defenses.statistic import GRID, logarithm, moments, one_sided, standard, two_sided, unlike
from underfire.registry import register

MEMBERS = ("cam", "grad", "rts", "occlusion")
"""Members by default, one of each family: representation, back-propagation, model, removal."""


@register("defenses", "ensemble")
class Disagreement:
    """Interpreters of different kinds (paper, section 5.3): do their maps of one picture agree as on benign pictures?

    Args:
        classifier: the classifier.
        members: name -> interpreter, two or more.
        odd: what counts: pairs that disagree ('more') or agree ('less') more than on benign pictures, or 'both'.

    Raises:
        UnderfireError: fewer than two members.
    """

    name = "ensemble"
    looks = 1

    def __init__(
        self,
        classifier: Classifier,
        members: Mapping[str, Interpreter],
        odd: Literal["both", "more", "less"] = "both",
    ) -> None:
        if len(members) < 2:
            raise UnderfireError(
                f"An ensemble of '{', '.join(members)}' has nothing to compare: name two or more different members."
            )
        self.classifier, self.members, self.odd = classifier, dict(members), odd
        self.passes = sum(member.map_passes for member in self.members.values())
        self.pairs = tuple(itertools.combinations(range(len(members)), 2))
        names = tuple(self.members)
        self.labels = tuple(f"{names[i]}–{names[j]}" for i, j in self.pairs)

    @staticmethod
    def usual(options: Mapping[str, Any]) -> tuple[str, ...]:
        """Name the members by default."""
        return MEMBERS

    def evidence(self, see: Sight) -> Tensor:
        """Compute d (N, pairs)."""
        shown = see.maps(see.x)
        first = shown[0]
        return torch.stack([unlike(shown[i].to(first), shown[j].to(first)) for i, j in self.pairs], 1)

    def learn(self, evidence: Tensor) -> Learnt:
        """Learn μ and Σ of v."""
        mean, covariance = moments(logarithm(evidence))
        return {"mean": mean.tolist(), "covariance": covariance.tolist()}

    def score(self, evidence: Tensor, learnt: Learnt) -> PerImage:
        """Compute s (N,)."""
        mean, covariance = (evidence.new_tensor(learnt[name]) for name in ("mean", "covariance"))
        r = logarithm(evidence) - mean
        if self.odd == "both":
            return two_sided(r, covariance)
        return one_sided(r if self.odd == "more" else -r, covariance)

    def unusual(self, evidence: Tensor, learnt: Learnt) -> Tensor:
        """Tell by how many standard deviations each pair disagrees, or agrees, more than on benign pictures."""
        mean, covariance = (evidence.new_tensor(learnt[name]) for name in ("mean", "covariance"))
        z = (logarithm(evidence) - mean) / covariance.diag().sqrt()
        return {"both": z.abs(), "more": z, "less": -z}[self.odd]

    def where(self, see: Sight, column: int) -> Maps:
        """Show on 7×7 cells where the two maps of a pair differ, each with mean 0 and length 1."""
        i, j = self.pairs[column]
        shown = see.maps(see.x)
        return (standard(shown[i]) - standard(shown[j]).to(shown[i])).abs().reshape(-1, GRID, GRID)
