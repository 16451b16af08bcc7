"""The alarm as a defender deploys it: calibrated on benign photos, then asked about one image at a time.

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
from underfire.defenses.ensemble.score import log_probability, smoothed
from underfire.images import pixels
from underfire.images.given import as_shown
from underfire.images.photos import Folder
from underfire.interpreters import checked
from underfire.registry import register


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

    def check(self, image: str | Path | Tensor) -> Verdict:
        """What the alarm says of one image's file, or of a tensor (3, H, W) of the input size, taken as it is.

        Raises:
            UnderfireError: no image that can be read.
        """
        path, levels = self._shown(image)
        x = pixels.to_tensor([levels]).to(getattr(self.classifier, "device", "cpu"))
        z, score, shown = self.scores(x)
        p, c = z.double().softmax(1)[0].max(0)
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
        )

    def _shown(self, image: str | Path | Tensor) -> tuple[str, Any]:
        policy = self.classifier.preprocess
        if isinstance(image, Tensor):
            if image.dim() != 3:
                raise UnderfireError(f"A tensor {tuple(image.shape)}: give one image at a time, (3, H, W).")
            return "tensor", as_shown(image[None], policy.input_size, self.classifier.name)[0]
        content = Folder(str(image)).bytes(Path(image).name)
        return str(image), pixels.load(content, str(image), policy)


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
        copy = smoothed(x)
        log_p = log_probability(ensemble.classifier.logits(copy).double(), z.argmax(1)).cpu()
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
