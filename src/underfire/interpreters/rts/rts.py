"""RTS: real-time saliency (Dabkowski & Gal 2017; method, section 2.8), the paper's model-guided interpreter.

m_c(x) = the mask that a trained network gives in one pass from the classifier's own features; it is in [0, 1] as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from underfire.core import Classifier, Goal, Images, Labels, Maps, PerImage, Terms, unknown
from underfire.images import maps
from underfire.interpreters.rts.card import file_digest, find, load
from underfire.interpreters.rts.net import MaskNet
from underfire.registry import register


@register("interpreters", "rts")
class Rts:
    """Masks of a trained network, 56×56 for a 224 px classifier.

    Args:
        classifier: one with a feature pyramid and a linear head.
        weights: a file from `underfire train rts` for this classifier; by default the packaged one.

    Raises:
        UnderfireError: there is no network for this classifier.
    """

    name = "rts"
    family = "model"
    attack_options: ClassVar[Mapping[str, Any]] = {"loss": Literal["square", "cross-entropy", "logit", "odds"]}

    def __init__(self, classifier: Classifier, weights: str | None = None) -> None:
        self.classifier, self.head = classifier, classifier.head
        path = find(classifier, weights, self.name)
        self._take(load(path).to(self.head.device), file_digest(path))

    @classmethod
    def around(cls, classifier: Classifier, net: MaskNet) -> Self:
        """Make an interpreter around a network that has no file yet."""
        rts = cls.__new__(cls)
        rts.classifier, rts.head = classifier, classifier.head
        rts._take(net, "")
        return rts

    def _take(self, net: MaskNet, digest: str) -> None:
        classifier = self.classifier
        self.net, self.digest = net, digest
        self.cost = decoder_cost(classifier, self.net)
        self.map_passes = 1 + self.cost
        self.step_passes = 3 * (1 + self.cost)

    def of_levels(self, levels: list[Tensor], y: Labels) -> Maps:
        """Compute maps (N, h, w) in [0, 1] from a pyramid; the classifier's meter counts the network's passes too."""
        meter = self.classifier.meter
        return maps_of(self.net, [*levels[:-1], meter.tap(levels[-1], self.cost)], self.head[y])

    @torch.no_grad()
    def explain(self, x: Images, y: Labels) -> Maps:
        """Compute maps (N, h, w) in [0, 1] of images (N, 3, H, W) for classes ``y`` (N,)."""
        return self.of_levels(self.classifier.pyramid(x), y)

    def surrogate(self, x: Images, goal: Goal, loss: str = "square", **options: object) -> RtsSurrogate:
        """Start the attacker's side: RTS is differentiable as it is.

        Args:
            x: clean images (N, 3, H, W).
            goal: the target classes and maps.
            loss: one of `LOSSES`.
            options: not needed.

        Raises:
            UnderfireError: an unknown loss.
        """
        if loss not in LOSSES:
            raise unknown(f"{self.name} loss", loss, LOSSES)
        return RtsSurrogate(self, goal, loss)


@register("interpreters", "rts-a")
class RtsA(Rts):
    """RTSᴬ (method, section 6.2), trained on forged images too: its map shall follow a forged prediction.

    Args:
        classifier: one with a feature pyramid and a linear head.
        weights: a file from `underfire train rts --adversarial doubt` for this classifier; by default the packaged one.
    """

    name = "rts-a"


@register("interpreters", "rts-aid")
class RtsAid(Rts):
    """RTS trained with the paper's adversarial interpretation distillation (method, section 6.3).

    Args:
        classifier: one with a feature pyramid and a linear head.
        weights: a file from `underfire train rts --adversarial aid` for this classifier.
    """

    name = "rts-aid"


def cross_entropy(m: Maps, wanted: Maps) -> PerImage:
    """Compute the mean cross-entropy (N,) of masks to target maps. Unlike the square it has a slope at 0 and at 1."""
    tiny = torch.finfo(m.dtype).tiny
    kept, left = m.clamp_min(tiny).log(), (1 - m).clamp_min(tiny).log()
    return -(wanted * kept + (1 - wanted) * left).mean((1, 2))


def logit_distance(m: Maps, wanted: Maps) -> PerImage:
    """Compute the mean distance (N,) of masks before their sigmoid, in tens: its slope is the same at 0, ½ and 1."""
    z, z_wanted = (one.clamp(SATURATED, 1 - SATURATED).logit() for one in (m, wanted))
    return (z - z_wanted).abs().mean((1, 2)) / 10


SATURATED = 1e-6
"""A mask this near to 0 or 1 is there: float32 tells none apart that is nearer to 1."""
DARK = 1e-4
"""Values of a mask, and of what is left to 1, below which their order is not asked for."""


def odds(m: Maps, wanted: Maps) -> PerImage:
    """Compute the mean square (N,) of the differences of masks, and that of their log-odds.

    Most of a mask is nearly black. There the square sees nothing, and whoever compares ranks sees everything.
    """
    a, b = (torch.logit(one.clamp(DARK, 1 - DARK)) for one in (m, wanted))
    return maps.l2(m, wanted) + ODDS * maps.l2(a, b)


ODDS = 1 / 64
"""Weight of the log-odds: a quarter of the square's where a mask is ½, where log-odds change four times as fast."""
LOSSES: dict[str, Callable[[Maps, Maps], PerImage]] = {
    "square": maps.l2,
    "cross-entropy": cross_entropy,
    "logit": logit_distance,
    "odds": odds,
}
"""Distances of a mask from the target map that the attacker can choose."""


def maps_of(net: MaskNet, levels: list[Tensor], w: Tensor) -> Maps:
    """Compute the masks (N, h, w) of a network in float32.

    Args:
        net: the network.
        levels: feature maps at strides 4 to 32.
        w: the head's rows (N, C) of the classes.
    """
    with torch.autocast(w.device.type, enabled=False):
        masks: Maps = net([f.float() for f in levels], w.float())
    return masks


def decoder_cost(classifier: Classifier, net: MaskNet) -> float:
    """Compute what the network adds to the cost of a map, in F: its multiply-adds over the classifier's."""
    x = torch.zeros(1, *classifier.preprocess.shape, device=classifier.head.device, dtype=classifier.head.dtype)
    with torch.no_grad(), FlopCounterMode(display=False) as whole:
        levels = classifier.pyramid(x)
        classifier.scores(levels[-1])
    with torch.no_grad(), FlopCounterMode(display=False) as decoder:
        maps_of(net, levels, classifier.head[:1])
    return float(decoder.get_total_flops() / whole.get_total_flops())


class RtsSurrogate:
    """The attacker's side of RTS: the prediction and the map come from one forward.

    The published attack adds the class loss of RTS's own encoder. Here the encoder *is* the classifier, so this loss is
    ℓ_prd already.

    Args:
        rts: the interpreter.
        goal: the target classes and maps.
        loss: one of `LOSSES`.
    """

    shows = True

    def __init__(self, rts: Rts, goal: Goal, loss: str = "square") -> None:
        self.rts, self.goal, self.compare = rts, goal, LOSSES[loss]

    def terms(self, x: Images) -> Terms:
        """Compute the logits, ℓ_int and the real maps."""
        levels = self.rts.classifier.pyramid(x)
        m = self.of_levels(levels)
        z = self.rts.classifier.scores(levels[-1])
        return Terms(z, self.compare(m, self.goal.maps[self.rts.name]), m.detach(), m)

    def of_levels(self, levels: list[Tensor]) -> Maps:
        """Compute the maps for the target classes from a pyramid."""
        return self.rts.of_levels(levels, self.goal.labels)

    def advance(self, x: Images, progress: float) -> None:
        """Do nothing: there is no inner state."""

    def select(self, keep: Tensor) -> None:
        """Keep only the rows ``keep``."""
        self.goal = self.goal.select(keep)
