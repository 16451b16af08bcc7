"""RTS: Real-Time Saliency (Dabkowski & Gal 2017), the paper's model-guided interpreter.

m_c(x) = the mask that a trained network gives in one pass from the classifier's own features; in [0, 1] as it is.
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
        weights: a file that `underfire train rts` made for this classifier; by default the packaged one.
    """

    name = "rts"
    attack_options: ClassVar[Mapping[str, Any]] = {"loss": Literal["square", "cross-entropy"]}

    def __init__(self, classifier: Classifier, weights: str | None = None) -> None:
        self.classifier, self.head = classifier, classifier.head
        path = find(classifier, weights, self.name)
        self._take(load(path).to(self.head.device), file_digest(path))

    @classmethod
    def around(cls, classifier: Classifier, net: MaskNet) -> Self:
        """An interpreter around a network that is no file yet."""
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
        """Maps (N, h, w) in [0, 1] from a pyramid; the decoder's work is charged to the classifier's meter."""
        meter = self.classifier.meter
        return maps_of(self.net, [*levels[:-1], meter.tap(levels[-1], self.cost)], self.head[y])

    @torch.no_grad()
    def explain(self, x: Images, y: Labels) -> Maps:
        """Maps (N, h, w) in [0, 1] of ``x`` for classes ``y``."""
        return self.of_levels(self.classifier.pyramid(x), y)

    def surrogate(self, x: Images, goal: Goal, loss: str = "square", **options: object) -> RtsSurrogate:
        """RTS is differentiable as it is; ``loss`` is one of `LOSSES`."""
        if loss not in LOSSES:
            raise unknown(f"{self.name} loss", loss, LOSSES)
        return RtsSurrogate(self, goal, loss)


@register("interpreters", "rts-a")
class RtsA(Rts):
    """RTS that was trained on forged images too: its map shall follow a forged prediction.

    Args:
        classifier: one with a feature pyramid and a linear head.
        weights: a file that `underfire train rts --adversarial` made for this classifier; by default the packaged one.
    """

    name = "rts-a"


def cross_entropy(m: Maps, wanted: Maps) -> PerImage:
    """Mean cross-entropy of a mask to the wanted one: unlike the square it has a slope where the mask is 0 or 1."""
    tiny = torch.finfo(m.dtype).tiny
    kept, left = m.clamp_min(tiny).log(), (1 - m).clamp_min(tiny).log()
    return -(wanted * kept + (1 - wanted) * left).mean((1, 2))


LOSSES: dict[str, Callable[[Maps, Maps], PerImage]] = {"square": maps.l2, "cross-entropy": cross_entropy}
"""How the attacker may measure a mask's distance."""


def maps_of(net: MaskNet, levels: list[Tensor], w: Tensor) -> Maps:
    """The network's masks in float32."""
    with torch.autocast(w.device.type, enabled=False):
        masks: Maps = net([f.float() for f in levels], w.float())
    return masks


def decoder_cost(classifier: Classifier, net: MaskNet) -> float:
    """Multiply-adds of one map beyond the classifier's, in F: of the classifier's own."""
    size = classifier.preprocess.input_size
    x = torch.zeros(1, 3, size, size, device=classifier.head.device, dtype=classifier.head.dtype)
    with torch.no_grad(), FlopCounterMode(display=False) as whole:
        levels = classifier.pyramid(x)
        classifier.scores(levels[-1])
    with torch.no_grad(), FlopCounterMode(display=False) as decoder:
        maps_of(net, levels, classifier.head[:1])
    return float(decoder.get_total_flops() / whole.get_total_flops())


class RtsSurrogate:
    """ℓ_int of RTS: the prediction and the map come from one forward.

    The published attack adds the loss of the encoder's own class head; here the encoder *is* the classifier, so that
    head's loss is ℓ_prd already.
    """

    shows = True

    def __init__(self, rts: Rts, goal: Goal, loss: str = "square") -> None:
        self.rts, self.goal, self.compare = rts, goal, LOSSES[loss]

    def terms(self, x: Images) -> Terms:
        """Logits, map difference, and the real maps."""
        levels = self.rts.classifier.pyramid(x)
        m = self.of_levels(levels)
        z = self.rts.classifier.scores(levels[-1])
        return Terms(z, self.compare(m, self.goal.maps[self.rts.name]), m.detach(), m)

    def of_levels(self, levels: list[Tensor]) -> Maps:
        """The maps that are moved."""
        return self.rts.of_levels(levels, self.goal.labels)

    def advance(self, x: Images, progress: float) -> None:
        """Nothing to move."""

    def select(self, keep: Tensor) -> None:
        """Keep only some rows."""
        self.goal = self.goal.select(keep)
