"""The alarm as a defender deploys it: calibrated on benign photos, then asked about one photo at a time.

alarm = underfire.alarm("alarm.json")
verdict = alarm.check("photo.jpg")
verdict.alarm, verdict.score, verdict.maps["cam"]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from underfire import registry
from underfire.core import Classifier, Images, MismatchError, PerImage, UnderfireError
from underfire.defenses import calibration
from underfire.defenses.calibration import Calibration, refuse_strangers
from underfire.defenses.detector import Detector, Telling, detector_of
from underfire.defenses.sight import Seen, Sight
from underfire.defenses.verdict import Finding, Verdict
from underfire.heads import head_of, kind_of
from underfire.images import maps, pixels
from underfire.images.given import as_shown
from underfire.images.photos import Folder
from underfire.registry import door_of

SIZE = 56
"""Side of the combined map, px."""


class Alarm:
    """A detector with a threshold from benign photos (method, section 6.1).

    Args:
        classifier: the classifier that it was calibrated for.
        path: file from `underfire defend calibrate`.
        members: names of the deployed interpreters; they must be those of the file.
        options: member -> options that win over the file's, such as the new path of a trained network.

    Raises:
        UnderfireError: there is no such file, or it is for another classifier or for other members.
    """

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
        self.detector = _deployed(classifier, self.known, str(path), members, options or {})
        self.name, self.threshold = self.known.defense, self.known.threshold
        self.digest = calibration.digest(path)
        self.passes = 1 + self.detector.passes
        self.expected, self.bound = self.known.expected, self.known.bound

    def score_of(self, see: Sight) -> PerImage:
        """Compute the scores (N,) of what a sight sees; they have a gradient where the sight has one."""
        return self.detector.score(self.detector.evidence(see), self.known.learnt)

    def look(self, x: Images) -> tuple[Tensor, Seen, Tensor]:
        """Look at pictures (N, 3, H, W): their logits (N, K), what was seen, and the evidence (N, k), on the CPU."""
        with torch.no_grad():
            z = self.classifier.logits(x)
            see = Seen(self.classifier, self.detector.members, x, z.argmax(1))
            return z, see, self.detector.evidence(see).cpu()

    def scores(self, x: Images) -> tuple[Tensor, PerImage, dict[str, dict[int, Tensor]]]:
        """Compute the logits (N, K), the scores (N,) and, by member and row, the maps of images (N, 3, H, W).

        Maps and scores are those of the images' own predictions. An image that some member has no map of, or that the
        detector has no number for, cannot be judged: its score is infinite, which is an alarm.
        """
        z, see, evidence = self.look(x)
        shown = {
            name: {row: one for row, one in enumerate(m) if bool(one.isfinite().all())} for name, m in see.shown.items()
        }
        return z, self._scores(see, evidence), shown

    def _scores(self, see: Seen, evidence: Tensor) -> PerImage:
        scores = torch.full((len(evidence),), float("inf"), dtype=torch.float64)
        whole = [row for row in range(len(evidence)) if row not in see.failed and bool(evidence[row].isfinite().all())]
        if whole:
            found = self.detector.score(evidence[whole], self.known.learnt).double()
            scores[whole] = found.nan_to_num(nan=float("inf"))
        return scores

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
        z, see, evidence = self.look(x)
        score = self._scores(see, evidence)[0]
        p, c = head_of(self.classifier).probabilities(z.double())[0].max(0)
        shown = {name: m[0] for name, m in see.shown.items() if bool(m.isfinite().all())}
        return Verdict(
            path,
            int(c),
            self.classifier.classes.names[int(c)],
            float(p),
            float(score) if bool(score.isfinite()) else None,
            self.threshold,
            not bool(score <= self.threshold),
            {name: m.numpy() for name, m in shown.items()},
            levels,
            kind_of(self.classifier),
            combined(list(shown.values())).numpy() if len(shown) > 1 else None,
            self._finding(see, evidence) if bool(score.isfinite()) else None,
        )

    def _finding(self, see: Seen, evidence: Tensor) -> Finding | None:
        """Say what in a picture is the most unusual, and where; None where the detector does not tell."""
        if not isinstance(self.detector, Telling):
            return None
        unusual = self.detector.unusual(evidence, self.known.learnt)[0]
        column = int(unusual.argmax())
        with torch.no_grad():
            where = maps.unit_scale(self.detector.where(see, column).cpu())[0]
        return Finding(self.detector.labels[column], float(unusual[column]), where.numpy())

    def _shown(self, image: str | Path | Tensor | tuple[str, bytes]) -> tuple[str, Any]:
        if isinstance(image, tuple):
            return image[0], door_of(self.classifier).open(image[1], image[0])
        if isinstance(image, Tensor):
            if image.dim() != 3:
                raise UnderfireError(f"A tensor {tuple(image.shape)}: give one image at a time, (C, H, W).")
            return "tensor", as_shown(image[None], self.classifier.preprocess, self.classifier.name)[0]
        content = Folder(str(image)).bytes(Path(image).name)
        return str(image), door_of(self.classifier).open(content, str(image))


def combined(shown: Sequence[Tensor]) -> Tensor:
    """Average maps (h, w) of several members at one size (56, 56)."""
    return torch.stack([maps.resize(m[None], (SIZE, SIZE))[0] for m in shown]).mean(0).clamp(0, 1)


def through(classifier: Classifier) -> str:
    """Name the front door of a classifier, with its digest."""
    door = door_of(classifier)
    return f"{door.name} {door.digest}".strip()


def _deployed(
    classifier: Classifier,
    known: Calibration,
    path: str,
    members: Sequence[str] | None,
    options: Mapping[str, Mapping[str, Any]],
) -> Detector:
    """Build the detector of a file; MismatchError where the file is for another classifier, members or networks."""
    if known.classifier_digest != classifier.digest:
        raise MismatchError(
            f"'{path}' was calibrated for '{known.classifier}' with other weights or sizes than those of "
            f"'{classifier.name}' here: name that classifier with --classifier, --weights and its sizes, or calibrate "
            "again, for the classifier that is deployed."
        )
    if known.door and known.door != through(classifier):
        raise MismatchError(
            f"'{path}' was calibrated on photos that came through the front door '{known.door.split()[0]}', and "
            f"'{classifier.name}' has '{through(classifier).split()[0]}' here: its false alarms are not known there. "
            "Calibrate again, behind the door that is deployed."
        )
    for name in members or ():
        registry.maker("interpreters", name)  # an unknown name has an error of its own
    if members is not None and set(members) != set(known.names):
        raise MismatchError(
            f"'{path}' was calibrated for the members {', '.join(known.names) or '(none)'}, not {', '.join(members)}: "
            "calibrate again, with the members that are deployed."
        )
    of_members = {m.name: {**m.options, **options.get(m.name, {})} for m in known.members}
    built = detector_of(known.defense, classifier, known.names, of_members, known.options)
    for member in known.members:
        if built.members[member.name].digest != member.digest:
            raise MismatchError(
                f"'{path}' was calibrated with another network of '{member.name}' than the one here: calibrate again."
            )
    return built
