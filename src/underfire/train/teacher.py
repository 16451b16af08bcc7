"""The plain network that adversarial training starts from, and is measured against."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from underfire.core import Classifier, MismatchError
from underfire.core.hashing import digest_of
from underfire.interpreters.rts.card import find, load, read_card
from underfire.interpreters.rts.net import MaskNet
from underfire.interpreters.rts.rts import Rts


@dataclass(frozen=True)
class Teacher:
    """A plain network.

    Args:
        net: g₀, frozen.
        threshold: its t.
        validation: SHA-256 of the photos that it was judged by.
        digest: SHA-256 of its file.
    """

    net: MaskNet
    threshold: float
    validation: Collection[str]
    digest: str


def load_teacher(classifier: Classifier, plain: str | None) -> Teacher:
    """Load the plain network of a classifier.

    Args:
        classifier: for which it was trained.
        plain: its file; None: the packaged one.

    Raises:
        UnderfireError: there is none, or it is another classifier's or adversarially trained itself.
    """
    if plain and read_card(Path(plain).expanduser()).kind != Rts.name:
        raise MismatchError(f"--from {plain}: this network is of an adversarial training; start from a plain one.")
    path = find(classifier, plain)
    card = read_card(path)
    return Teacher(load(path).to(classifier.head.device), card.threshold, card.validation, digest_of(path))
