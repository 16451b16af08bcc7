"""The alarm as a defender deploys it: calibrated on benign photos, then asked about one image at a time.

alarm = underfire.alarm("alarm.json")
verdict = alarm.check("photo.jpg")
verdict.alarm, verdict.score, verdict.maps["cam"]
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from underfire import calibration, core
from underfire.calibration import Calibration, Member
from underfire.core import Classifier, Images, PerImage, Photo, UnderfireError
from underfire.core.place import absolute_files
from underfire.images import photos as images
from underfire.images import pixels
from underfire.interpreters import checked, disagreement
from underfire.interpreters.ensemble import MEMBERS, Ensemble, log_probability
from underfire.metrics import conformal
from underfire.registry import register

BATCH = 8


@register("defenses", "ensemble")
class EnsembleAlarm:
    """Raises an alarm where several interpreters disagree more than they do on benign images.

    Args:
        classifier: the one it was calibrated for.
        path: the file of `underfire defend calibrate`.
        members: the deployed ones, to be held against the file's.
        options: member -> options that win over the file's, such as where a trained network lies now.
    """

    name = "ensemble"

    def __init__(
        self,
        classifier: Classifier,
        path: str,
        members: Sequence[str] | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.classifier = classifier
        self.known = calibration.read(path)
        refuse_strangers(self.known.names, options or {})
        self.ensemble = Ensemble(classifier, members, options, defense=path)
        self.threshold = self.known.threshold
        self.digest = calibration.digest(path)
        self.passes = 2 * (1 + self.ensemble.map_passes)

    def scores(self, x: Images) -> tuple[Tensor, PerImage, dict[str, dict[int, Tensor]]]:
        """Logits, the alarm's scores and the members' maps by row, of images (N, 3, H, W) for their own predictions.

        Where a member has no map the image cannot be explained: its score is infinite, which is an alarm.
        """
        seen = look(self.ensemble, x)
        scores = torch.full((len(x),), float("inf"), dtype=torch.float64)
        if seen.whole:
            scores[seen.whole] = self.ensemble.score_of(*seen.maps(), seen.log_p[seen.whole])
        return seen.logits, scores, seen.shown

    def check(self, path: str | Path) -> Verdict:
        """What the alarm says of one image's file.

        Raises:
            UnderfireError: no image that can be read.
        """
        folder = images.Folder(str(path))
        content = folder.bytes(Path(path).name)
        levels = pixels.load(content, str(path), self.classifier.preprocess)
        x = pixels.to_tensor([levels]).to(getattr(self.classifier, "device", "cpu"))
        z, score, shown = self.scores(x)
        p, c = z.double().softmax(1)[0].max(0)
        return Verdict(
            str(path),
            int(c),
            self.classifier.classes.names[int(c)],
            float(p),
            float(score[0]) if bool(score[0].isfinite()) else None,
            self.threshold,
            bool(score[0] > self.threshold),
            {name: maps[0].numpy() for name, maps in shown.items() if 0 in maps},
            levels,
        )


@dataclass(frozen=True)
class Seen:
    """What a classifier and its ensemble say of images and of their copies, on the CPU in float64.

    Args:
        logits: (N, K) of the images.
        log_p: (N,) log-probabilities of the copies for the images' predictions.
        shown: member -> row -> map of the image for its prediction.
        again: the same of the copies.
        failed: row -> why a member has no map of it.
    """

    logits: Tensor
    log_p: PerImage
    shown: dict[str, dict[int, Tensor]]
    again: dict[str, dict[int, Tensor]]
    failed: dict[int, str]

    @property
    def whole(self) -> list[int]:
        """The rows that every member explains."""
        return [row for row in range(len(self.logits)) if row not in self.failed]

    def maps(self) -> tuple[list[Tensor], list[Tensor]]:
        """Each member's maps of the images and of their copies, of the whole rows."""
        shown, again = (
            [torch.stack([m[row] for row in self.whole]) for m in t.values()] for t in (self.shown, self.again)
        )
        return shown, again


def look(ensemble: Ensemble, x: Images) -> Seen:
    """Ask the classifier and every member about images (N, 3, H, W) and their copies."""
    with torch.no_grad():
        z = ensemble.classifier.logits(x)
        copy = disagreement.smoothed(x)
        log_p = log_probability(ensemble.classifier.logits(copy).double(), z.argmax(1)).cpu()
    shown: dict[str, dict[int, Tensor]] = {}
    again: dict[str, dict[int, Tensor]] = {}
    failed: dict[int, str] = {}
    for name, member in ensemble.members.items():
        for found, images_of in ((shown, x), (again, copy)):
            found[name], errors = checked.explain(member, images_of, z.argmax(1))
            failed |= {row: reason for row, reason in errors.items() if row not in failed}
    return Seen(z, log_p, shown, again, failed)


@dataclass(frozen=True)
class Verdict:
    """What the alarm says of one image.

    Args:
        image: as it was named.
        label: the predicted class.
        prediction: its name.
        confidence: its probability.
        score: of the alarm; None where a member has no map, which is an alarm too.
        threshold: a score above it is an alarm.
        alarm: whether there is one.
        maps: member -> map (h, w) in [0, 1] for the predicted class.
        levels: (H, W, 3) what the classifier was shown.
    """

    image: str
    label: int
    prediction: str
    confidence: float
    score: float | None
    threshold: float
    alarm: bool
    maps: Mapping[str, Any]
    levels: Any

    def row(self) -> dict[str, Any]:
        """As `underfire check --json` prints it."""
        names = ("image", "prediction", "confidence", "score", "threshold", "alarm")
        return {name: getattr(self, name) for name in names}


def calibrate(
    classifier: Classifier,
    source: str,
    members: Sequence[str] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    false_alarms: float = 0.05,
    limit: int | None = None,
    told: Callable[[int, int], None] = lambda done, of: None,
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
        told: how many photos are done, and of how many.

    Returns:
        The calibration, and by path why photos were left out or have no map.

    Raises:
        UnderfireError: too few photos, or photos that underfire attacked.
    """
    if not 0 < false_alarms < 1:
        raise UnderfireError(f"--false-alarms {false_alarms:g}: give a share above 0 and below 1, such as 0.05.")
    folder = images.Folder(source)
    refuse_results(source)
    photos = folder.photos(limit)
    _refuse_few({photo.sha256 for photo in photos}, false_alarms, source, len(photos))
    ensemble = _ensemble(classifier, members, options or {})
    found, unexplained, skipped = _distances(ensemble, folder, photos, told)
    order = sorted(found, key=lambda sha: hashlib.sha256(f"calibrate/{sha}".encode()).hexdigest())
    _refuse_few(order, false_alarms, source, len(photos), next(iter(skipped.values()), ""))
    n = conformal.fitted(len(order))
    d = torch.stack([found[sha] for sha in order])
    mean, covariance = disagreement.statistics(d[:n])
    scores = sorted(disagreement.score(d[n:], mean, covariance).tolist())
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


def refuse_strangers(members: Sequence[str], options: Mapping[str, Any]) -> None:
    """Raise UnderfireError for settings of what is no member."""
    for name in options:
        if name not in members:
            raise core.unknown("member of this alarm", name, members)


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
    ensemble: Ensemble, folder: images.Folder, photos: Sequence[Photo], told: Callable[[int, int], None]
) -> tuple[dict[str, Tensor], list[str], dict[str, str]]:
    """The members' disagreements on each photo, by its digest; the digests of those that have no map; and why."""
    found: dict[str, Tensor] = {}
    unexplained: list[str] = []
    skipped: dict[str, str] = {}
    for photo in photos:  # before the first map: with MASK among the members the last one comes hours later
        _refuse_forged(folder, photo)
    told(0, len(photos))
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
        told(min(first + BATCH, len(photos)), len(photos))
    return found, unexplained, skipped


def _refuse_forged(folder: images.Folder, photo: Photo) -> None:
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
        d[seen.whole] = disagreement.distances(*seen.maps(), seen.log_p[seen.whole])
    return d, seen.failed
