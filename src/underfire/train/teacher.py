"""The plain network that adversarial training starts from, and is measured against."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from underfire.core import Classifier, MismatchError, evenly
from underfire.core.hashing import digest_of
from underfire.interpreters.rts.card import find, load, read_card
from underfire.interpreters.rts.net import MaskNet
from underfire.interpreters.rts.rts import Rts
from underfire.train.photos import LabelledPhoto


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


def set_apart(labelled: Sequence[LabelledPhoto], most: int) -> tuple[list[LabelledPhoto], list[LabelledPhoto]]:
    """Take photos out of those that teach, by whose forgeries a training is judged.

    Args:
        labelled: photos, split.
        most: photos that judge, at most; no more than a quarter of those that teach.

    Returns:
        Those that judge, and all others.
    """
    train = [p for p in labelled if not p.validation]
    judged = evenly(train, max(1, min(most, len(train) // 4)))
    known = {p.photo.sha256 for p in judged}
    return list(judged), [p for p in labelled if p.photo.sha256 not in known]


def resplit(labelled: Sequence[LabelledPhoto], held: Collection[str]) -> list[LabelledPhoto]:
    """Take over the teacher's split, where its photos are among these: what judged it must not teach its pupil.

    Args:
        labelled: photos, split anew.
        held: SHA-256 of the photos that the teacher was judged by.
    """
    classes = {p.label for p in labelled if p.photo.sha256 in held}
    left = sum(p.label not in classes for p in labelled)
    return [replace(p, validation=p.label in classes) for p in labelled] if classes and left else list(labelled)
