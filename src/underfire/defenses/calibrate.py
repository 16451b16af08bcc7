"""The calibration of an alarm: what its detector learns and its threshold come from benign photos (method, 6.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from underfire.core import Classifier, Listener, Quiet, TooFewError, UnderfireError
from underfire.core.place import absolute_files
from underfire.defenses.alarm import through
from underfire.defenses.calibration import Calibration, Member, refuse_strangers
from underfire.defenses.detector import Detector, detector_of
from underfire.defenses.evidence import Collected, collect
from underfire.images.photos import Folder
from underfire.metrics import conformal


@dataclass(frozen=True)
class Wanted:
    """What kind of alarm is calibrated.

    Args:
        kind: the name of a detector.
        false_alarms: share of benign photos that may raise an alarm, in (0, 1).
        confidence: how sure this is of the calibration at hand, in (0, 1); None: on average over calibrations.
        members: names of the interpreters that are compared; None: the detector's usual ones.
        options: member, or the detector's name -> settings.
    """

    kind: str = "squeeze"
    false_alarms: float = 0.05
    confidence: float | None = None
    members: Sequence[str] | None = None
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.false_alarms < 1:
            raise UnderfireError(
                f"--false-alarms {self.false_alarms:g}: give a share above 0 and below 1, such as 0.05."
            )
        if self.confidence is not None and not 0 < self.confidence < 1:
            raise UnderfireError(f"--confidence {self.confidence:g}: give a share above 0 and below 1, such as 0.95.")

    @property
    def needed(self) -> int:
        """The number of different benign photos that it takes."""
        return conformal.images_needed(self.false_alarms, self.confidence)


def calibrate(
    classifier: Classifier,
    images: str,
    members: Sequence[str] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    false_alarms: float = 0.05,
    limit: int | None = None,
    listener: Listener | None = None,
    *,
    kind: str = "squeeze",
    confidence: float | None = None,
) -> tuple[Calibration, dict[str, str]]:
    """Learn from benign photos what is normal, and an alarm's threshold.

    Example:
        ``calibrate(classifier, "benign", kind="ensemble", confidence=0.95)[0].write(Path("alarm.json"))``

    Args:
        classifier: the classifier that is deployed.
        images: a folder of benign photos.
        members: names of the interpreters; by default the usual ones of the kind.
        options: member, or the kind -> settings of its maker.
        false_alarms: share of benign photos that may raise an alarm, in (0, 1).
        limit: number of photos that are used, evenly spaced over the sorted paths; by default all.
        listener: hears how it goes on.
        kind: 'squeeze', 'ensemble', or another detector's name.
        confidence: how sure ``false_alarms`` is of this calibration, such as 0.95; None: on average over calibrations.

    Returns:
        The calibration; and by path, why photos were left out or have no score.

    Raises:
        UnderfireError: too few photos, or photos that underfire has attacked.
    """
    wanted = Wanted(kind, false_alarms, confidence, members, options or {})
    folder = Folder(images)
    _refuse_results(images)
    photos = folder.photos(limit)
    _refuse_few({photo.sha256 for photo in photos}, wanted, images, len(photos))
    detector, of_members = _detector(classifier, wanted)
    found = collect(detector, classifier, folder, photos, listener or Quiet())
    _refuse_few(found.by_photo, wanted, images, len(photos), next(iter(found.skipped.values()), ""))
    return _calibration(detector, classifier, of_members, found, wanted), found.skipped


def _calibration(
    detector: Detector,
    classifier: Classifier,
    of_members: Mapping[str, Mapping[str, Any]],
    found: Collected,
    wanted: Wanted,
) -> Calibration:
    """Learn from a quarter of the photos, in the order of their digests; the threshold comes from the rest.

    Photos that have no evidence belong to the rest: they would raise an alarm.
    """
    order = sorted(found.by_photo, key=lambda sha: hashlib.sha256(f"calibrate/{sha}".encode()).hexdigest())
    n = conformal.fitted(len(order))
    evidence = torch.stack([found.by_photo[sha] for sha in order])
    learnt = detector.learn(evidence[:n])
    scored = detector.score(evidence[n:], learnt).double()
    if not bool(scored.isfinite().all()):
        raise UnderfireError(
            f"'{wanted.kind}' gives benign photos scores that are not finite: mend it before it is deployed."
        )
    scores = sorted(scored.tolist())
    members = detector.members
    return Calibration(
        classifier=classifier.name,
        classifier_digest=classifier.digest,
        members=tuple(Member(name, absolute_files(of_members.get(name, {})), members[name].digest) for name in members),
        learnt=learnt,
        threshold=conformal.threshold(scores, wanted.false_alarms, len(found.unexplained), wanted.confidence),
        false_alarms=wanted.false_alarms,
        scores=tuple(scores),
        photos=tuple(sorted([*order, *found.unexplained])),
        unexplained=len(found.unexplained),
        defense=wanted.kind,
        options=wanted.options.get(wanted.kind, {}),
        confidence=wanted.confidence,
        door=through(classifier),
    )


def _detector(classifier: Classifier, wanted: Wanted) -> tuple[Detector, Mapping[str, Mapping[str, Any]]]:
    """Build the detector; returns it with the options of its members."""
    own = wanted.options.get(wanted.kind, {})
    of_members = {name: given for name, given in wanted.options.items() if name != wanted.kind}
    if wanted.members:
        refuse_strangers(wanted.members, of_members)
    try:
        built = detector_of(wanted.kind, classifier, wanted.members, of_members, own)
    except UnderfireError as e:
        if wanted.members or wanted.kind not in ("ensemble", "squeeze"):
            raise
        raise UnderfireError(f"{e} Or calibrate with other members: --interpreter cam --interpreter grad.") from e
    refuse_strangers(tuple(built.members), of_members)
    return built, of_members


def _refuse_few(usable: Collection[str], wanted: Wanted, source: str, files: int, why: str = "") -> None:
    """Raise UnderfireError where there are too few different photos; ``why`` is the error of one that was left out."""
    if len(usable) >= wanted.needed:
        return
    n = f"{len(usable)} benign images"
    if len(usable) < files:
        n = f"{len(usable)} usable benign images among {files} files"
    reason = f" ({why.removesuffix('.')})" if why else " (the same photo counts once)" * (len(usable) < files)
    sure = "" if wanted.confidence is None else f" with --confidence {wanted.confidence:g}"
    raise TooFewError(
        f"'{source}' has {n}{reason}: --false-alarms {wanted.false_alarms:g}{sure} needs at least {wanted.needed}. "
        "Give more, or allow more false alarms."
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
