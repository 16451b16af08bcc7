"""How well a score tells attacked images from benign ones: ROC, AUC with its interval, detection at a rate. No torch.

AUC = P(s(attacked) > s(benign)) + ½ P(s(attacked) = s(benign))
detection at a: P(s(attacked) > t), t the conformal threshold of the benign scores for a share a of false alarms
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underfire.metrics import conformal
from underfire.metrics.estimate import NOTHING, Estimate, rate

RESAMPLED = 2000
"""Bootstrap samples behind an interval."""
Scores = Sequence[float | None]
"""None: the image could not be scored, which is an alarm; above every number."""


@dataclass(frozen=True)
class Roc:
    """One curve: share of attacked images found, over the share of benign ones that raise an alarm."""

    false_alarms: tuple[float, ...]
    found: tuple[float, ...]


def numbers(scores: Scores) -> NDArray[np.float64]:
    """Scores as numbers; what could not be scored is infinite."""
    return np.asarray([np.inf if s is None else s for s in scores], np.float64)


def roc(benign: Scores, attacked: Scores) -> Roc:
    """The curve from (0, 0) to (1, 1), one corner for each threshold."""
    b, a = np.sort(numbers(benign)), np.sort(numbers(attacked))
    thresholds = np.unique(np.concatenate([b, a]))[::-1]
    above_b = 1 - np.searchsorted(b, thresholds, "left") / len(b)
    above_a = 1 - np.searchsorted(a, thresholds, "left") / len(a)
    return Roc((0.0, *above_b.tolist()), (0.0, *above_a.tolist()))


def auc(benign: Scores, attacked: Scores, seed: int = 0) -> Estimate:
    """Area under the curve with the 95 % interval of a bootstrap over both groups; nothing without both."""
    b, a = numbers(benign), numbers(attacked)
    if not len(b) or not len(a):
        return NOTHING
    won = (a[:, None] > b) + 0.5 * (a[:, None] == b)  # (attacked, benign)
    rng = np.random.default_rng(seed)
    of_a, of_b = (rng.multinomial(n, np.full(n, 1 / n), RESAMPLED) / n for n in (len(a), len(b)))
    low, high = np.quantile(((of_a @ won) * of_b).sum(1), (0.025, 0.975))
    return Estimate(float(won.mean()), float(low), float(high), len(a))


def detection(benign: Scores, attacked: Scores, false_alarms: float) -> Estimate:
    """Share of attacked images found at a rate of false alarms; nothing where the benign ones are too few for it."""
    b, a = numbers(benign), numbers(attacked)
    if len(b) < conformal.smallest(false_alarms):
        return NOTHING
    threshold = conformal.threshold(b.tolist(), false_alarms)
    return rate((a > threshold).tolist())
