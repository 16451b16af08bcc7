"""Calibrate an alarm: learn statistics and a threshold from benign photos."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from underfire.core import Classifier, Images, Listener, Photo, Quiet, UnderfireError
from underfire.core.place import absolute_files
from underfire.defenses.ensemble import score
from underfire.defenses.ensemble.alarm import look
from underfire.defenses.ensemble.calibration import Calibration, Member, refuse_strangers
from underfire.defenses.ensemble.interpreter import MEMBERS, Ensemble
from underfire.images import pixels
from underfire.images.photos import Folder
from underfire.metrics import conformal


def calibrate(
    classifier: Classifier,
    source: str,
    members: Sequence[str] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    false_alarms: float = 0.05,
    limit: int | None = None,
    listener: Listener | None = None,
) -> tuple[Calibration, dict[str, str]]:
    """Learn an alarm's statistics and threshold from benign photos.

    Every fourth photo, in the order of their digests, teaches the statistics; the others, the threshold, and so do
    those that a member has no map of: they would raise an alarm.

    Args:
        classifier: that is deployed.
        source: a folder of benign photos.
        members: interpreters; three cheap ones by default.
        options: member -> options of its maker.
        false_alarms: share of benign images that may raise an alarm, in (0, 1).
        limit: photos, evenly spaced over the sorted paths.
        listener: hears how it goes on.

    Returns:
        The calibration, and by path why photos were left out or have no map.

    Raises:
        UnderfireError: too few photos, or photos that underfire attacked.
    """
    if not 0 < false_alarms < 1:
        raise UnderfireError(f"--false-alarms {false_alarms:g}: give a share above 0 and below 1, such as 0.05.")
    folder = Folder(source)
    refuse_results(source)
    photos = folder.photos(limit)
    _refuse_few({photo.sha256 for photo in photos}, false_alarms, source, len(photos))
    ensemble = _ensemble(classifier, members, options or {})
    found, unexplained, skipped = _distances(ensemble, folder, photos, listener or Quiet())
    order = sorted(found, key=lambda sha: hashlib.sha256(f"calibrate/{sha}".encode()).hexdigest())
    _refuse_few(order, false_alarms, source, len(photos), next(iter(skipped.values()), ""))
    n = conformal.fitted(len(order))
    d = torch.stack([found[sha] for sha in order])
    mean, covariance = score.statistics(d[:n])
    scores = sorted(score.alarm_score(d[n:], mean, covariance).tolist())
    names = ensemble.members
    known = Calibration(
        classifier.name,
        classifier.digest,
        tuple(Member(name, absolute_files(ensemble.options[name]), names[name].digest) for name in names),
        tuple(mean.tolist()),
        tuple(map(tuple, covariance.tolist())),
        conformal.threshold(scores, false_alarms, len(unexplained)),
        false_alarms,
        tuple(scores),
        tuple(sorted([*order, *unexplained])),
        len(unexplained),
    )
    return known, skipped


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
    """Raise UnderfireError where so many different photos are too few; ``why`` is what is wrong with another one."""
    needed = conformal.images_needed(false_alarms)
    if len(usable) < needed:
        n = f"{len(usable)} benign images" + (f" of use among {files} files" if len(usable) < files else "")
        reason = f" ({why.removesuffix('.')})" if why else " (the same photo counts once)" * (len(usable) < files)
        raise UnderfireError(
            f"'{source}' has {n}{reason}: --false-alarms {false_alarms:g} needs at least {needed}. Give more, or "
            "allow more false alarms."
        )


def refuse_results(source: str) -> None:
    """Raise UnderfireError where a folder lies in an audit's results: those pictures are no benign photos."""
    path = Path(source).expanduser().absolute()
    for folder in (path, *path.parents):
        if (folder / "plan.yaml").is_file() and (folder / "records").is_dir():
            raise UnderfireError(
                f"'{source}' holds results of the audit in '{folder}': its pictures were attacked. Calibrate on benign "
                "photos only."
            )


def _distances(
    ensemble: Ensemble, folder: Folder, photos: Sequence[Photo], listener: Listener
) -> tuple[dict[str, Tensor], list[str], dict[str, str]]:
    """The members' disagreements on each photo, by its digest; the digests of those that have no map; and why."""
    found: dict[str, Tensor] = {}
    unexplained: list[str] = []
    skipped: dict[str, str] = {}
    for photo in photos:  # before the first map: with MASK among the members the last one comes hours later
        _refuse_forged(folder, photo)
    listener.begin("calibrate", len(photos), 0)
    for first in range(0, len(photos), BATCH):
        part: list[Photo] = []
        levels = []
        for photo in photos[first : first + BATCH]:
            try:
                levels.append(pixels.load(folder.bytes(photo.path), photo.path, ensemble.classifier.preprocess))
                part.append(photo)
            except UnderfireError as e:
                skipped[photo.path] = str(e)
        if part:
            x = pixels.to_tensor(levels).to(getattr(ensemble.classifier, "device", "cpu"))
            d, failed = _of_batch(ensemble, x)
            skipped |= {part[row].path: f"{part[row].path}: {reason}" for row, reason in failed.items()}
            found |= {photo.sha256: d[row] for row, photo in enumerate(part) if row not in failed}
            unexplained += [part[row].sha256 for row in failed]
        listener.done(min(first + BATCH, len(photos)))
    return found, unexplained, skipped


def _refuse_forged(folder: Folder, photo: Photo) -> None:
    try:
        note = pixels.forged_note(folder.bytes(photo.path))
    except UnderfireError:  # what cannot be read is left out, by name, when its turn comes
        return
    if note:
        raise UnderfireError(f"'{photo.path}' was made by underfire ({note}): calibrate on benign photos only.")


def _of_batch(ensemble: Ensemble, x: Images) -> tuple[Tensor, dict[int, str]]:
    """(N, 1 + members) distances of images for their own predictions, and by row why others have none."""
    seen = look(ensemble, x)
    d = torch.full((len(x), 1 + len(ensemble.members)), float("nan"), dtype=torch.float64)
    if seen.whole:
        d[seen.whole] = score.distances(*seen.maps(), seen.log_p[seen.whole])
    return d, seen.failed


BATCH = 8
