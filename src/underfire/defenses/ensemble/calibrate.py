"""The calibration of an alarm: its statistics and its threshold come from benign photos (method, section 6.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from underfire.core import Classifier, Images, Listener, Photo, Quiet, TooFewError, UnderfireError
from underfire.core.place import absolute_files
from underfire.defenses.ensemble import score
from underfire.defenses.ensemble.alarm import look
from underfire.defenses.ensemble.calibration import Calibration, Member, refuse_strangers
from underfire.defenses.ensemble.interpreter import MEMBERS, Ensemble
from underfire.images import pixels
from underfire.images.photos import Folder
from underfire.metrics import conformal
from underfire.registry import door_of

BATCH = 8
"""Photos that share a batch."""


def calibrate(
    classifier: Classifier,
    images: str,
    members: Sequence[str] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    false_alarms: float = 0.05,
    limit: int | None = None,
    listener: Listener | None = None,
) -> tuple[Calibration, dict[str, str]]:
    """Learn an alarm's statistics and its threshold from benign photos.

    Example:
        ``calibrate(classifier, "benign", ["cam", "grad"])[0].write(Path("alarm.json"))``

    Args:
        classifier: the classifier that is deployed.
        images: a folder of benign photos.
        members: names of the interpreters; by default three with cheap maps.
        options: member -> options of its maker.
        false_alarms: share of benign photos that may raise an alarm, in (0, 1).
        limit: number of photos that are used, evenly spaced over the sorted paths; by default all.
        listener: hears how it goes on.

    Returns:
        The calibration; and by path, why photos were left out or have no map.

    Raises:
        UnderfireError: too few photos, or photos that underfire has attacked.
    """
    if not 0 < false_alarms < 1:
        raise UnderfireError(f"--false-alarms {false_alarms:g}: give a share above 0 and below 1, such as 0.05.")
    folder = Folder(images)
    _refuse_results(images)
    photos = folder.photos(limit)
    _refuse_few({photo.sha256 for photo in photos}, false_alarms, images, len(photos))
    ensemble = _ensemble(classifier, members, options or {})
    found = _distances(ensemble, folder, photos, listener or Quiet())
    _refuse_few(found.by_photo, false_alarms, images, len(photos), next(iter(found.skipped.values()), ""))
    return _calibration(ensemble, found, false_alarms), found.skipped


@dataclass
class Distances:
    """The members' distances on benign photos.

    Args:
        by_photo: SHA-256 of a photo -> distances (1 + members,).
        unexplained: SHA-256 of the photos that some member has no map of.
        skipped: path -> why a photo was left out, or has no map.
    """

    by_photo: dict[str, Tensor] = field(default_factory=dict)
    unexplained: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def _calibration(ensemble: Ensemble, found: Distances, false_alarms: float) -> Calibration:
    """Compute statistics from a quarter of the photos, in the order of their digests, and the threshold from the rest.

    Photos that some member has no map of belong to the rest: they would raise an alarm.
    """
    order = sorted(found.by_photo, key=lambda sha: hashlib.sha256(f"calibrate/{sha}".encode()).hexdigest())
    n = conformal.fitted(len(order))
    d = torch.stack([found.by_photo[sha] for sha in order])
    mean, covariance = score.statistics(d[:n])
    scores = sorted(score.alarm_score(d[n:], mean, covariance).tolist())
    members = ensemble.members
    return Calibration(
        classifier=ensemble.classifier.name,
        classifier_digest=ensemble.classifier.digest,
        members=tuple(Member(name, absolute_files(ensemble.options[name]), members[name].digest) for name in members),
        mean=tuple(mean.tolist()),
        covariance=tuple(map(tuple, covariance.tolist())),
        threshold=conformal.threshold(scores, false_alarms, len(found.unexplained)),
        false_alarms=false_alarms,
        scores=tuple(scores),
        photos=tuple(sorted([*order, *found.unexplained])),
        unexplained=len(found.unexplained),
    )


def _ensemble(
    classifier: Classifier, members: Sequence[str] | None, options: Mapping[str, Mapping[str, Any]]
) -> Ensemble:
    refuse_strangers(members or MEMBERS, options)
    try:
        return Ensemble(classifier, members, options)
    except UnderfireError as e:
        if members:
            raise
        raise UnderfireError(f"{e} Or calibrate without it: --interpreter cam --interpreter grad.") from e


def _refuse_few(usable: Collection[str], false_alarms: float, source: str, files: int, why: str = "") -> None:
    """Raise UnderfireError where there are too few different photos; ``why`` is the error of one that was left out."""
    needed = conformal.images_needed(false_alarms)
    if len(usable) < needed:
        n = f"{len(usable)} benign images"
        if len(usable) < files:
            n = f"{len(usable)} usable benign images among {files} files"
        reason = f" ({why.removesuffix('.')})" if why else " (the same photo counts once)" * (len(usable) < files)
        raise TooFewError(
            f"'{source}' has {n}{reason}: --false-alarms {false_alarms:g} needs at least {needed}. Give more, or "
            "allow more false alarms."
        )


def _refuse_results(source: str) -> None:
    """Raise UnderfireError where a folder is one of an audit's results: the images in it are no benign photos."""
    path = Path(source).expanduser().absolute()
    for folder in (path, *path.parents):
        if (folder / "plan.yaml").is_file() and (folder / "records").is_dir():
            raise UnderfireError(
                f"'{source}' holds results of the audit in '{folder}': these images were attacked. Calibrate on benign "
                "photos only."
            )


def _distances(ensemble: Ensemble, folder: Folder, photos: Sequence[Photo], listener: Listener) -> Distances:
    for photo in photos:  # before the first map: with MASK among the members the last map comes hours later
        _refuse_forged(folder, photo)
    found = Distances()
    listener.begin("calibrate", len(photos), 0)
    for first in range(0, len(photos), BATCH):
        _add_batch(ensemble, folder, photos[first : first + BATCH], found)
        listener.done(min(first + BATCH, len(photos)))
    return found


def _add_batch(ensemble: Ensemble, folder: Folder, photos: Sequence[Photo], found: Distances) -> None:
    """Add the distances of some photos."""
    usable: list[Photo] = []
    levels, door = [], door_of(ensemble.classifier)
    for photo in photos:
        try:
            levels.append(door.open(folder.bytes(photo.path), photo.path))
            usable.append(photo)
        except UnderfireError as e:
            found.skipped[photo.path] = str(e)
    if not usable:
        return
    x = pixels.to_tensor(levels).to(getattr(ensemble.classifier, "device", "cpu"))
    d, failed = _of_batch(ensemble, x)
    found.skipped |= {usable[row].path: f"{usable[row].path}: {reason}" for row, reason in failed.items()}
    found.by_photo |= {photo.sha256: d[row] for row, photo in enumerate(usable) if row not in failed}
    found.unexplained += [usable[row].sha256 for row in failed]


def _refuse_forged(folder: Folder, photo: Photo) -> None:
    try:
        note = pixels.forged_note(folder.bytes(photo.path))
    except UnderfireError:  # a photo that cannot be read is left out when its turn comes
        return
    if note:
        raise UnderfireError(f"'{photo.path}' was made by underfire ({note}): calibrate on benign photos only.")


def _of_batch(ensemble: Ensemble, x: Images) -> tuple[Tensor, dict[int, str]]:
    """Compute distances (N, 1 + members) of images for their own predictions; and by row, why others have none."""
    seen = look(ensemble, x)
    d = torch.full((len(x), 1 + len(ensemble.members)), float("nan"), dtype=torch.float64)
    if seen.whole:
        d[seen.whole] = score.distances(*seen.maps(), seen.log_p[seen.whole])
    return d, seen.failed
