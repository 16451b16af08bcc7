"""The alarm as a defender deploys it: calibrated on benign photos, then asked about one photo at a time.

alarm = underfire.alarm("alarm.json")
verdict = alarm.check("photo.jpg")
verdict.alarm, verdict.score, verdict.maps["cam"]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from underfire.core import Classifier, Images, PerImage, UnderfireError
from underfire.defenses.ensemble import calibration
from underfire.defenses.ensemble.calibration import refuse_strangers
from underfire.defenses.ensemble.interpreter import Ensemble
from underfire.defenses.ensemble.score import smoothed_copy
from underfire.heads import head_of, kind_of
from underfire.images import pixels
from underfire.images.given import as_shown
from underfire.images.photos import Folder
from underfire.interpreters import checked
from underfire.registry import door_of, register


@register("defenses", "ensemble")
class EnsembleAlarm:
    """An alarm where several interpreters disagree more than they do on benign images (method, section 6.1).

    Args:
        classifier: the classifier that it was calibrated for.
        path: file from `underfire defend calibrate`.
        members: names of the deployed interpreters; they must be those of the file.
        options: member -> options that win over the file's, such as the new path of a trained network.

    Raises:
        UnderfireError: there is no such file, or it is for another classifier or for other members.
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
        self.door = door_of(classifier)

    def scores(self, x: Images) -> tuple[Tensor, PerImage, dict[str, dict[int, Tensor]]]:
        """Compute the logits (N, K), the scores (N,) and, by member and row, the maps of images (N, 3, H, W).

        Maps and scores are those of the images' own predictions. An image that some member has no map of cannot be
        explained: its score is infinite, which is an alarm.
        """
        seen = look(self.ensemble, x)
        scores = torch.full((len(x),), float("inf"), dtype=torch.float64)
        if seen.whole:
            scores[seen.whole] = self.ensemble.score_of(*seen.maps(), seen.log_p[seen.whole])
        return seen.logits, scores, seen.shown

    def check(self, image: str | Path | Tensor | tuple[str, bytes]) -> Verdict:
        """Ask the alarm about one photo's file, or about a tensor (3, H, W) of the input size, taken as it is.

        Example:
            ``underfire.alarm("alarm.json").check("photo.jpg").alarm``

        Args:
            image: the file, its name and content, or the tensor.

        Raises:
            UnderfireError: the photo cannot be read.
        """
        path, levels = self._shown(image)
        x = pixels.to_tensor([levels]).to(getattr(self.classifier, "device", "cpu"))
        z, score, shown = self.scores(x)
        p, c = head_of(self.classifier).probabilities(z.double())[0].max(0)
        return Verdict(
            path,
            int(c),
            self.classifier.classes.names[int(c)],
            float(p),
            float(score[0]) if bool(score[0].isfinite()) else None,
            self.threshold,
            bool(score[0] > self.threshold),
            {name: maps[0].numpy() for name, maps in shown.items() if 0 in maps},
            levels,
            kind_of(self.classifier),
        )

    def _shown(self, image: str | Path | Tensor | tuple[str, bytes]) -> tuple[str, Any]:
        if isinstance(image, tuple):
            return image[0], self.door.open(image[1], image[0])
        if isinstance(image, Tensor):
            if image.dim() != 3:
                raise UnderfireError(f"A tensor {tuple(image.shape)}: give one image at a time, (C, H, W).")
            return "tensor", as_shown(image[None], self.classifier.preprocess, self.classifier.name)[0]
        content = Folder(str(image)).bytes(Path(image).name)
        return str(image), self.door.open(content, str(image))


@dataclass(frozen=True)
class Seen:
    """The answers of a classifier and its ensemble about images and their copies, on the CPU in float64.

    Args:
        logits: (N, K) of the images.
        log_p: (N,) log-probabilities of the images' predictions, on the copies.
        shown: member -> row -> map (h, w) of the image for its prediction.
        again: likewise, maps of the copies.
        failed: row -> why some member has no map of the image.
    """

    logits: Tensor
    log_p: PerImage
    shown: dict[str, dict[int, Tensor]]
    again: dict[str, dict[int, Tensor]]
    failed: dict[int, str]

    @property
    def whole(self) -> list[int]:
        """The rows of the images that every member explains."""
        return [row for row in range(len(self.logits)) if row not in self.failed]

    def maps(self) -> tuple[list[Tensor], list[Tensor]]:
        """Stack each member's maps of the images, and of their copies, in the rows that every member explains."""
        shown, again = (
            [torch.stack([m[row] for row in self.whole]) for m in t.values()] for t in (self.shown, self.again)
        )
        return shown, again


def look(ensemble: Ensemble, x: Images) -> Seen:
    """Ask the classifier and every member about images (N, 3, H, W) and their smoothed copies."""
    with torch.no_grad():
        z = ensemble.classifier.logits(x)
        copy = smoothed_copy(x)
        again_z = ensemble.classifier.logits(copy).double()
        log_p = head_of(ensemble.classifier).log_probability(again_z, z.argmax(1)).cpu()
    shown: dict[str, dict[int, Tensor]] = {}
    again: dict[str, dict[int, Tensor]] = {}
    failed: dict[int, str] = {}
    for name, member in ensemble.members.items():
        for found, images_of in ((shown, x), (again, copy)):
            m, errors = checked.explain(member, images_of, z.argmax(1))
            found[name] = {row: one for row, one in enumerate(m) if row not in errors}
            failed |= {row: reason for row, reason in errors.items() if row not in failed}
    return Seen(z, log_p, shown, again, failed)


@dataclass(frozen=True)
class Verdict:
    """The alarm's verdict on one photo.

    Args:
        image: path of the photo, as the user wrote it.
        label: index of the predicted class.
        prediction: its name.
        confidence: its probability.
        score: the alarm's score; None where some member has no map, which is an alarm too.
        threshold: every score above it is an alarm.
        alarm: whether an alarm is raised.
        maps: member -> map (h, w) in [0, 1] for the predicted class.
        levels: (H, W, C) the image that the classifier was shown.
        head: what the classifier's outputs mean; its prediction on labels of their own is the strongest label.
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
    head: str = "softmax"

    def row(self) -> dict[str, Any]:
        """Return the columns that `underfire check --json` prints."""
        names = ("image", "head", "prediction", "confidence", "score", "threshold", "alarm")
        return {name: getattr(self, name) for name in names}
