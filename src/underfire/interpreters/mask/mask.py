"""MASK: meaningful perturbation (Fong & Vedaldi 2017; method, section 2.7), the perturbation-guided interpreter.

    m*  = argmin  p_c(φ(x; m)) + 1e-4 Σ|1 − m| + 1e-2 Σ(|∂_h m|³ + |∂_v m|³)   s.t.  0 ≤ m ≤ 1
    map = 1 − m*                                             high where deleting hurts the class

m is a 28×28 mask, and φ blends the image with its blurred copy (`blend`). Adam takes 300 steps from m = ½, clamped
after each (`walk`): the map is where this walk ends, not the exact minimum.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from torch import Tensor

from underfire.core import Classifier, Goal, ImageErrors, Images, Labels, Maps, Surrogate, UnderfireError, unknown
from underfire.interpreters.mask.bilevel import Bilevel
from underfire.interpreters.mask.match import Match
from underfire.interpreters.mask.recent import Recent
from underfire.interpreters.mask.walk import Objective, Process, at_least, flat_images
from underfire.registry import register
from underfire.registry.values import hints_of

SURROGATES: dict[str, type] = {"match": Match, "bilevel": Bilevel}
GIVEN = ("process", "x", "y", "source", "wanted", "recent")
"""Parameters of a surrogate that are no settings."""
SMALLEST_LR = 1e-6
"""Smallest step size of Adam."""


@register("interpreters", "mask")
class Mask:
    """The mask that deletes least and hurts the class most, shown as 1 − m; 28×28.

    Args:
        classifier: any differentiable classifier.
        size: side of the mask and the map, px; of an input that is not square, the shorter side.
        steps: number of Adam's steps.
        lr: Adam's step size, in units of the mask.
        l1: weight of Σ|1 − m|.
        tv: weight of the total variation.
        jitter: before each step the blend is cropped at a random position 0 … jitter − 1 px off; the authors' own
            setting is 4. 0 and 1 mean no jitter.
        seed: seed of the jitter, together with the image's pixels.

    Raises:
        UnderfireError: a setting that is no such number, or a jitter of more pixels than the shorter side has.
    """

    name = "mask"
    family = "removal"
    digest = ""
    step_passes = 20.0
    quick: ClassVar[Mapping[str, Any]] = {"record": 4}
    """Options of a surrogate that starts at once, for a look at how long its steps take."""
    attack_options: ClassVar[Mapping[str, Any]] = {
        "kind": Literal["match", "bilevel"],
        **hints_of(Bilevel, but=GIVEN),
        **hints_of(Match, but=GIVEN),
    }

    def __init__(
        self,
        classifier: Classifier,
        size: int = 28,
        steps: int = 300,
        lr: float = 0.1,
        l1: float = 1e-4,
        tv: float = 1e-2,
        jitter: int = 0,
        seed: int = 0,
    ) -> None:
        for what, value, least in (("size", size, 1), ("steps", steps, 1), ("jitter", jitter, 0)):
            at_least(what, value, least, whole=True)
        for what, number, smallest in (("lr", lr, SMALLEST_LR), ("l1", l1, 0.0), ("tv", tv, 0.0)):
            at_least(what, number, smallest)
        short = min(classifier.preprocess.size)
        if jitter > short:
            raise UnderfireError(
                f"mask jitter = {jitter}: the blend is moved by up to one pixel less, and the input's shorter side has "
                f"{short} px: give {short} or less."
            )
        self.classifier = classifier
        self.process = Process(classifier, size, steps, lr, Objective(l1, tv), jitter, seed)
        self.map_passes = 3.0 * steps
        self._recent = Recent()

    def explain(self, x: Images, y: Labels) -> Maps:
        """Compute maps (N, h, w) in [0, 1] of images (N, C, H, W) for classes ``y`` (N,).

        Where the class score is near 0 whatever is deleted, the mask keeps everything: the map is 0.

        Raises:
            ImageErrors: images that blurring does not change, and images whose scores are not finite.
        """
        self._refuse(
            flat_images(x), "blurring changes nothing in this image, so there is nothing that MASK could delete."
        )
        walk = self.process.start(x)
        for _ in self._recent.kept(self.process, x, y, walk):
            pass
        self._refuse(~walk.m.isfinite().flatten(1).all(1), "its scores are not finite while MASK deletes parts of it.")
        return 1 - walk.m

    @staticmethod
    def _refuse(rows: Tensor, reason: str) -> None:
        if bool(rows.any()):
            raise ImageErrors(dict.fromkeys(rows.nonzero()[:, 0].tolist(), reason))

    def surrogate(self, x: Images, goal: Goal, kind: str | None = None, **options: Any) -> Surrogate:
        """Start the attacker's side.

        Args:
            x: clean images (N, 3, H, W).
            goal: the target classes and maps.
            kind: 'match', or 'bilevel', the published one. 'match' follows the walk of an image to the target map, and
                a drawn map has none: there the default is 'bilevel'.
            options: settings of `Match` or `Bilevel`.

        Raises:
            UnderfireError: an unknown kind or option, or 'match' with a drawn target map.
        """
        kind = kind or ("bilevel" if goal.drawn else "match")
        if kind not in SURROGATES:
            raise unknown("mask surrogate", kind, SURROGATES)
        if kind == "match" and goal.drawn:
            raise UnderfireError(
                "MASK's 'match' follows the walk of an image, and a drawn map has none: use 'bilevel'."
            )
        known = [name for name in inspect.signature(SURROGATES[kind]).parameters if name not in GIVEN]
        for name in options:
            if name not in known:
                raise unknown(f"setting of mask's '{kind}' surrogate", name, known)
        if kind == "bilevel":
            return Bilevel(self.process, goal.labels, goal.maps[self.name], **options)
        references, classes = goal.references or (x, goal.source)
        return Match(self.process, references, goal.labels, classes, self._recent, **options)
