"""RTS: Real-Time Saliency (Dabkowski & Gal 2017), the paper's model-guided interpreter.

m_c(x) = the mask that a trained network gives in one pass from the classifier's own features; in [0, 1] as it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from underfire.core import Classifier, Goal, Images, Labels, Maps, PerImage, Terms, UnderfireError, unknown
from underfire.images import maps
from underfire.interpreters.rts_net import MaskNet
from underfire.registry import register

PACKAGED = Path(__file__).parent / "weights"
FORMAT = "underfire rts 1"


@dataclass(frozen=True)
class Card:
    """What a trained decoder is: all of it is in its file.

    Args:
        classifier: the classifier's name.
        classifier_digest: of its weights and input policy; the decoder fits no other.
        threshold: t of the saliency metric, chosen on training photos.
        settings: of the training.
        figures: what it is worth on photos of classes not trained on.
        validation: SHA-256 digests of those photos' files.
        kind: 'rts', or 'rts-a' where it was trained on forged images too.
    """

    classifier: str
    classifier_digest: str
    threshold: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    validation: tuple[str, ...] = ()
    kind: str = "rts"


def packed(net: MaskNet, card: Card) -> bytes:
    """The file of a decoder: safetensors in half precision, with its card."""
    state = {key: value.detach().cpu().half().contiguous() for key, value in net.state_dict().items()}
    # One entry: safetensors writes several in random order, and equal trainings shall give equal files.
    known = {"format": FORMAT, "channels": net.channels, "doubts": net.doubt is not None, **asdict(card)}
    metadata = {"underfire": json.dumps(known, sort_keys=True)}
    content: bytes = save(state, metadata)
    return content


def read_card(path: Path) -> Card:
    """The card of a decoder's file.

    Raises:
        UnderfireError: missing, truncated, or another kind of file.
    """
    known = _open(path)[0]
    fields = {key: known[key] for key in ("classifier", "classifier_digest", "threshold", "settings", "figures")}
    return Card(**fields, validation=tuple(known["validation"]), kind=known.get("kind", "rts"))


def load(path: Path) -> MaskNet:
    """The network of a decoder's file, in float32."""
    known, state = _open(path)
    net = MaskNet(known["channels"], known.get("doubts", False))
    try:
        net.load_state_dict({key: value.float() for key, value in state.items()})
    except RuntimeError as e:
        raise UnderfireError(f"'{path}' does not fit this version's RTS network: train it again.") from e
    return net.eval().requires_grad_(False)


def _open(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise UnderfireError(f"There is no RTS file '{path}': `underfire train rts` makes one.")
    try:
        with safe_open(path, framework="pt") as file:
            known = json.loads((file.metadata() or {}).get("underfire", "{}"))
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as e:
        raise UnderfireError(f"'{path}' is no whole RTS file ({e}): copy it again, or train it again.") from e
    if known.get("format") != FORMAT:
        raise UnderfireError(f"'{path}' is no RTS file of this version: `underfire train rts` makes one.")
    return known, state


def packaged() -> Iterator[Path]:
    """The decoders that come with underfire."""
    yield from sorted(PACKAGED.glob("rts-*.safetensors"))


def find(classifier: Classifier, weights: str | None, kind: str = "rts") -> Path:
    """The decoder's file for a classifier: the one named, or the packaged one that was trained for exactly it.

    Raises:
        UnderfireError: there is none, or it was trained for another classifier or in another way.
    """
    how = "underfire train rts --adversarial" if kind == "rts-a" else "underfire train rts"
    if weights is None:
        for path in packaged():
            card = read_card(path)
            if card.classifier_digest == classifier.digest and card.kind == kind:
                return path
        raise UnderfireError(
            f"{kind.upper()} has no trained network for '{classifier.name}' with these weights: train one with `{how} "
            f"--classifier {classifier.name} --images DIR --out {kind}.safetensors`, then name it with "
            f"--set {kind}.weights={kind}.safetensors."
        )
    path = Path(weights).expanduser()
    card = read_card(path)
    if card.classifier_digest != classifier.digest:
        raise UnderfireError(
            f"'{weights}' was trained for '{card.classifier}' with other weights or sizes than those of "
            f"'{classifier.name}' here: train one for it with `{how} --classifier {classifier.name}`."
        )
    if card.kind != kind:
        raise UnderfireError(f"'{weights}' holds a network of '{card.kind}': name it with --set {card.kind}.weights=.")
    return path


@register("interpreters", "rts")
class Rts:
    """Masks of a trained network, 56×56 for a 224 px classifier.

    Args:
        classifier: one with a feature pyramid and a linear head.
        weights: a file that `underfire train rts` made for this classifier; by default the packaged one.
    """

    name = "rts"

    def __init__(self, classifier: Classifier, weights: str | None = None) -> None:
        self.classifier, self.head = classifier, classifier.head
        path = find(classifier, weights, self.name)
        self._take(load(path).to(self.head.device), digest_of(path))

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


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
