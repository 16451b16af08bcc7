"""A map of class scores at masked images.

    x_k = M_k ⊙ x + (1 − M_k) · fill ,   s_k = p_c(x_k) ,   m_c(x) = min-max scaled  evidence(M, s)

Members of the family differ in the masks M_k and in how scores become evidence (`Masks`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from underfire.core import Classifier, Goal, ImageErrors, Images, Labels, Maps, Surrogate, UnderfireError, unknown
from underfire.heads import head_of
from underfire.images import maps
from underfire.interpreters.removal.matched_map import MatchedMap
from underfire.interpreters.removal.surrogate import RemovalSurrogate, of_rows
from underfire.interpreters.square import square_side
from underfire.registry.values import hints_of

FILLS = {"black": 0.0, "grey": 0.5, "white": 1.0}
"""Colours that stand in for what is removed."""
TOGETHER = 32
"""Masked images that pass the network together, at most, unless there are more images than that."""


class Masks(ABC):
    """The masks of one batch of N images.

    Attributes:
        n: number of masks of an image.
    """

    n: int

    @abstractmethod
    def keep(self, k: int) -> Tensor:
        """Make the k-th mask of each image: (N, 1, H, W) or (1, 1, H, W) in [0, 1], where 1 keeps."""

    @abstractmethod
    def evidence(self, scores: Tensor) -> Tensor:
        """Turn the scores (N, n) at the masks, on any device, into evidence (N, h, w)."""


class RemovalMap(ABC):
    """A map by removal.

    Args:
        classifier: any classifier; the victim needs no gradients of it.
        fill: colour of what is removed: 'black', 'grey' or 'white'.
        n: number of masks, for the estimate of the cost.

    Raises:
        UnderfireError: an unknown colour.
    """

    name: ClassVar[str]
    digest = "draws 2"
    """Version of what its attack draws."""
    family = "removal"
    attack_options: ClassVar[Mapping[str, Any]]

    def __init__(self, classifier: Classifier, fill: str, n: int) -> None:
        if fill not in FILLS:
            raise unknown(f"{self.name} fill", fill, FILLS)
        self.classifier, self.fill = classifier, FILLS[fill]
        self.side = square_side(classifier, self.name)
        self.map_passes, self.step_passes = float(n), 3.0 + 3.0 * LOOKS

    @abstractmethod
    def masks(self, x: Images) -> Masks:
        """Make the victim's masks for images ``x`` (N, 3, H, W)."""

    @abstractmethod
    def draws(self, x: Images, n: int) -> Masks:
        """Draw ``n`` masks of the victim's kind, for an attacker who does not know the victim's."""

    def masked(self, x: Images, keep: Tensor) -> Images:
        """Compute M ⊙ x + (1 − M) · fill."""
        return self.fill + keep * (x - self.fill)

    def logits(self, x: Images, masks: Masks, rows: Tensor | None = None) -> Iterator[Tensor]:
        """Yield the logits (N, K) at each mask; a few masks pass the network together.

        Args:
            x: images (N, C, H, W).
            masks: of these images, or of a batch that holds them.
            rows: (N,) which of that batch they are; None: all of it.
        """
        step = max(1, TOGETHER // max(1, len(x)))
        for first in range(0, masks.n, step):
            some = range(first, min(first + step, masks.n))
            z = self.classifier.logits(torch.cat([self.masked(x, of_rows(masks.keep(k), rows)) for k in some]))
            yield from z.view(len(some), len(x), -1)

    @torch.no_grad()
    def explain(self, x: Images, y: Labels) -> Maps:
        """Compute maps (N, h, w) in [0, 1] of images (N, 3, H, W) for classes ``y`` (N,).

        Raises:
            ImageErrors: images whose score is the same whatever is removed, or not finite.
        """
        masks, head = self.masks(x), head_of(self.classifier)
        odds = torch.stack([head.log_odds(z.cpu().double(), y.cpu()) for z in self.logits(x, masks)], 1)
        # Scores near 1 differ by less than float32 has digits for: there the map would be that of the roundings.
        scores = odds.sigmoid()
        dead = ~scores.isfinite().all(1) | (scores.amax(1) == scores.amin(1)) | maps.flat(odds.to(x.dtype))
        evidence = masks.evidence(torch.where(dead[:, None], torch.zeros_like(scores), scores)).to(x)
        dead = dead.to(x.device) | maps.flat(evidence)
        if bool(dead.any()):
            why = f"its score is the same whatever {self.name} removes, or not finite, so there is no map."
            raise ImageErrors(dict.fromkeys(dead.nonzero()[:, 0].tolist(), why))
        return maps.unit_scale(evidence)

    def surrogate(self, x: Images, goal: Goal, kind: str | None = None, **options: Any) -> Surrogate:
        """Start the attacker's side.

        Args:
            x: clean images (N, 3, H, W).
            goal: the target classes and maps.
            kind: 'scores' matches the benign image's scores, 'map' the map itself. A drawn target map is the map of no
                image and has no scores: there the default is 'map'.
            options: settings of `RemovalSurrogate` or `MatchedMap`.

        Raises:
            UnderfireError: an unknown kind or option, or 'scores' with a drawn target map.
        """
        kind = kind or ("map" if goal.drawn else "scores")
        if kind not in SURROGATES:
            raise unknown(f"{self.name} surrogate", kind, SURROGATES)
        known = hints_of(SURROGATES[kind], but=GIVEN)
        for name in options:
            if name not in known:
                raise unknown(f"setting of {self.name}'s '{kind}' surrogate", name, known)
        if kind == "map":
            return MatchedMap(self, x, goal, **options)
        if goal.drawn:
            raise UnderfireError(
                f"'scores' matches those of the image whose map is the target map, and a drawn map has none: attack "
                f"{self.name} by its 'map'."
            )
        references, classes = goal.references or (x, goal.source)
        return RemovalSurrogate(self, references, goal.labels, classes, **options)


SURROGATES: dict[str, type] = {"scores": RemovalSurrogate, "map": MatchedMap}
GIVEN = ("interpreter", "x", "y", "source", "goal")
"""Parameters of a surrogate that are no settings."""
LOOKS = 8
"""Masks that the attacker looks at in a step."""
RemovalMap.attack_options = {
    "kind": Literal["scores", "map"],
    **hints_of(RemovalSurrogate, but=GIVEN),
    **hints_of(MatchedMap, but=GIVEN),
}
