"""What an alarm says of one photo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """What in a picture is the most unusual.

    Args:
        what: part of the evidence, such as 'cam–rts': the pair of members that disagrees the most.
        unusual: how unusual it is, in standard deviations of benign photos.
        where: (h, w) in [0, 1], where it comes from.
    """

    what: str
    unusual: float
    where: Any


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
        combined: (56, 56) the mean of the members' maps; None of fewer than two.
        finding: what is the most unusual in the photo; None where the detector does not tell.
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
    combined: Any = None
    finding: Finding | None = None

    def row(self) -> dict[str, Any]:
        """Return the columns that `underfire check --json` prints."""
        names = ("image", "head", "prediction", "confidence", "score", "threshold", "alarm")
        told = {"most_unusual": self.finding.what, "unusual": round(self.finding.unusual, 3)} if self.finding else {}
        return {name: getattr(self, name) for name in names} | told
