"""The file of a trained RTS network: safetensors with a card, which says what the network is for and how good it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from underfire.core import Classifier, DamagedFileError, MismatchError, NotFoundError, OtherVersionError
from underfire.interpreters.rts.fits import refuse_unsuitable
from underfire.interpreters.rts.net import MaskNet

PACKAGED = Path(__file__).parent / "weights"
"""Folder of the networks that come with underfire."""
TRAINED_BY = {"rts-a": "underfire train rts --adversarial doubt", "rts-aid": "underfire train rts --adversarial aid"}
"""Kind -> the command that makes such networks."""
FORMAT = "underfire rts 1"
"""Version of the file."""


@dataclass(frozen=True)
class Card:
    """The description of a trained network, in its file.

    Args:
        classifier: name of the classifier.
        classifier_digest: digest of its weights and input policy; the network fits no other classifier.
        threshold: t of the saliency metric, chosen on training photos.
        settings: settings of the training.
        figures: measurements on photos of classes that were not trained on.
        validation: SHA-256 of the files of those photos.
        kind: 'rts', or 'rts-a' and 'rts-aid' where it was trained on forged images too.
    """

    classifier: str
    classifier_digest: str
    threshold: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    validation: tuple[str, ...] = ()
    kind: str = "rts"


def packed(net: MaskNet, card: Card) -> bytes:
    """Write the file of a network: safetensors in half precision, with its card."""
    state = {key: value.detach().cpu().half().contiguous() for key, value in net.state_dict().items()}
    # One entry: safetensors writes several entries in random order, and equal trainings shall give equal files.
    known = {"format": FORMAT, "channels": net.channels, "doubts": net.doubt is not None, **asdict(card)}
    metadata = {"underfire": json.dumps(known, sort_keys=True)}
    content: bytes = save(state, metadata)
    return content


def read_card(path: Path) -> Card:
    """Read the card in a network's file.

    Raises:
        UnderfireError: there is no such file, or it is damaged, or of another kind.
    """
    known = _open(path)[0]
    fields = {key: known[key] for key in ("classifier", "classifier_digest", "threshold", "settings", "figures")}
    return Card(**fields, validation=tuple(known["validation"]), kind=known.get("kind", "rts"))


def load(path: Path) -> MaskNet:
    """Load the network of a file, in float32.

    Raises:
        UnderfireError: as in `read_card`, or the network does not fit this version.
    """
    known, state = _open(path)
    net = MaskNet(known["channels"], known.get("doubts", False))
    try:
        net.load_state_dict({key: value.float() for key, value in state.items()})
    except RuntimeError as e:
        raise OtherVersionError(f"'{path}' does not fit this version's RTS network: train it again.") from e
    return net.eval().requires_grad_(False)


def _open(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise NotFoundError(f"There is no RTS file '{path}': `underfire train rts` makes one.")
    try:
        with safe_open(path, framework="pt") as file:
            known = json.loads((file.metadata() or {}).get("underfire", "{}"))
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as e:
        raise DamagedFileError(f"'{path}' is not a complete RTS file ({e}): copy it again, or train it again.") from e
    if known.get("format") != FORMAT:
        raise OtherVersionError(f"'{path}' is no RTS file of this version: `underfire train rts` makes one.")
    return known, state


def packaged() -> Iterator[Path]:
    """List the files of the networks that come with underfire."""
    yield from sorted(PACKAGED.glob("rts-*.safetensors"))


def find(classifier: Classifier, weights: str | None, kind: str = "rts") -> Path:
    """Find the file of the network for a classifier.

    Args:
        classifier: the classifier that is explained.
        weights: the file; None means the packaged one that was trained for exactly this classifier.
        kind: 'rts', 'rts-a' or 'rts-aid'.

    Raises:
        UnderfireError: there is none, or it was trained for another classifier or is of another kind.
    """
    how = TRAINED_BY.get(kind, "underfire train rts")
    if weights is None:
        for path in packaged():
            card = read_card(path)
            if card.classifier_digest == classifier.digest and card.kind == kind:
                return path
        refuse_unsuitable(classifier)
        raise NotFoundError(
            f"{kind.upper()} has no trained network for '{classifier.name}' with these weights: train one with `{how} "
            f"--classifier {classifier.name} --images DIR --out {kind}.safetensors` (and with --weights and "
            f"--input-size as here), then name it with --set {kind}.weights={kind}.safetensors."
        )
    path = Path(weights).expanduser()
    card = read_card(path)
    if card.classifier_digest != classifier.digest:
        raise MismatchError(
            f"'{weights}' was trained for '{card.classifier}' with other weights or sizes than those of "
            f"'{classifier.name}' here: train one for it with `{how} --classifier {classifier.name}`."
        )
    if card.kind != kind:
        raise MismatchError(f"'{weights}' holds a network of '{card.kind}': name it with --set {card.kind}.weights=.")
    return path


def file_digest(path: Path) -> str:
    """Compute the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
