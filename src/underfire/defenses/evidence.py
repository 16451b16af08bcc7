"""The evidence of benign photos, batch by batch: what an alarm's detector learns from (method, 6.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from underfire.core import Classifier, Images, Listener, Photo, UnderfireError
from underfire.defenses.detector import Detector
from underfire.defenses.sight import Seen
from underfire.images import pixels
from underfire.images.photos import Folder
from underfire.registry import door_of

BATCH = 8
"""Photos that share a batch."""


@dataclass
class Collected:
    """The evidence of benign photos.

    Args:
        by_photo: SHA-256 of a photo -> evidence (k,).
        unexplained: SHA-256 of the photos that have none.
        skipped: path -> why a photo was left out, or has none.
    """

    by_photo: dict[str, Tensor] = field(default_factory=dict)
    unexplained: set[str] = field(default_factory=set)
    skipped: dict[str, str] = field(default_factory=dict)


def collect(
    detector: Detector, classifier: Classifier, folder: Folder, photos: Sequence[Photo], listener: Listener
) -> Collected:
    """Ask a detector about each photo of a folder for the classifier's own prediction.

    Args:
        detector: the detector.
        classifier: its classifier.
        folder: the folder.
        photos: its photos.
        listener: hears how it goes on.

    Raises:
        UnderfireError: a photo that underfire has attacked.
    """
    for photo in photos:  # before the first map: with MASK among the members the last map comes hours later
        _refuse_forged(folder, photo)
    found = Collected()
    listener.begin("calibrate", len(photos), 0)
    for first in range(0, len(photos), BATCH):
        _add_batch(detector, classifier, folder, photos[first : first + BATCH], found)
        listener.done(min(first + BATCH, len(photos)))
    return found


def _add_batch(
    detector: Detector, classifier: Classifier, folder: Folder, photos: Sequence[Photo], found: Collected
) -> None:
    """Add the evidence of some photos."""
    usable: list[Photo] = []
    levels, door = [], door_of(classifier)
    for photo in photos:
        try:
            levels.append(door.open(folder.bytes(photo.path), photo.path))
            usable.append(photo)
        except UnderfireError as e:
            found.skipped[photo.path] = str(e)
    if not usable:
        return
    evidence, failed = _of_batch(detector, classifier, pixels.to_tensor(levels))
    found.skipped |= {usable[row].path: f"{usable[row].path}: {reason}" for row, reason in failed.items()}
    found.by_photo |= {photo.sha256: evidence[row] for row, photo in enumerate(usable) if row not in failed}
    found.unexplained |= {usable[row].sha256 for row in failed}


def _refuse_forged(folder: Folder, photo: Photo) -> None:
    try:
        note = pixels.forged_note(folder.bytes(photo.path))
    except UnderfireError:  # a photo that cannot be read is left out when its turn comes
        return
    if note:
        raise UnderfireError(f"'{photo.path}' was made by underfire ({note}): calibrate on benign photos only.")


@torch.no_grad()
def _of_batch(detector: Detector, classifier: Classifier, x: Images) -> tuple[Tensor, dict[int, str]]:
    """Measure the evidence (N, k) of images for their own predictions; and by row, why others have none."""
    x = x.to(getattr(classifier, "device", "cpu"))
    see = Seen(classifier, detector.members, x, classifier.logits(x).argmax(1))
    evidence = detector.evidence(see).cpu()
    odd = [row for row in range(len(x)) if row not in see.failed and not bool(evidence[row].isfinite().all())]
    none = dict.fromkeys(odd, f"{detector.name} gave a number that is not finite for this image.")
    return evidence, see.failed | none
