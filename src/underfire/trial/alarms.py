"""Alarms: what the defense beside the classifier says of images."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from underfire.core import PerImage
from underfire.images import pixels
from underfire.trial.load import Levels
from underfire.trial.system import System


@dataclass(frozen=True)
class Alarms:
    """What a defense says of N images.

    Args:
        scores: (N,) not finite where an alarm needs no score.
        threshold: a score above it is an alarm.
        passes: (N,) F spent on each look.
        expected: share of benign photos that raise an alarm, on average over calibrations; None: not known.
        bound: share that do at most, with 95 % confidence in this calibration.
    """

    scores: PerImage
    threshold: float
    passes: PerImage
    expected: float | None = None
    bound: float | None = None

    @property
    def raised(self) -> Tensor:
        """(N,) whether each image raises an alarm; one whose score is no number does."""
        return ~(self.scores <= self.threshold)

    def score(self, n: int) -> float | None:
        """The score of one image; None where its alarm needs none."""
        return float(self.scores[n]) if bool(self.scores[n].isfinite()) else None

    def select(self, keep: Tensor) -> Alarms:
        """The alarms of the images ``keep`` (bool (N,) or int indices)."""
        return replace(self, scores=self.scores[keep], passes=self.passes[keep])


def alarms(system: System, levels: Levels) -> Alarms | None:
    """Ask the defense about pictures (N, H, W, 3); None without a defense."""
    if system.alarm is None:
        return None
    x = pixels.to_tensor(levels).to(system.device)
    with torch.autocast(x.device.type, enabled=False), system.classifier.meter.counting(len(x)) as spent:
        scores = system.alarm.scores(x)[1].cpu() if len(x) else x.new_zeros(0).cpu()
    alarm = system.alarm
    return Alarms(scores, alarm.threshold, spent.passes, alarm.expected, alarm.bound)
