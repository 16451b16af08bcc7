"""Detection: how well a score tells attacked images from benign ones. It imports no torch.

AUC = P(s(attacked) > s(benign)) + ½ P(s(attacked) = s(benign))
detection at a: P(s(attacked) > t), where t is the conformal threshold of the benign scores for false alarms a
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underfire.metrics import conformal
from underfire.metrics.estimate import NOTHING, Estimate, rate

RESAMPLED = 2000
"""Number of bootstrap samples behind an interval."""
Scores = Sequence[float | None]
"""One score for each image. None means that it has none, which is an alarm: it counts as above every number."""


@dataclass(frozen=True)
class Roc:
    """A ROC curve.

    Args:
        false_alarms: shares of benign images that raise an alarm, ascending from 0 to 1.
        found: shares of attacked images that do, at the same thresholds.
    """

    false_alarms: tuple[float, ...]
    found: tuple[float, ...]


def numbers(scores: Scores) -> NDArray[np.float64]:
    """Turn scores into numbers, None into infinity."""
    return np.asarray([np.inf if s is None else s for s in scores], np.float64)


def roc(benign: Scores, attacked: Scores) -> Roc:
    """Draw the curve from (0, 0) to (1, 1), with one corner for each threshold."""
    b, a = np.sort(numbers(benign)), np.sort(numbers(attacked))
    thresholds = np.unique(np.concatenate([b, a]))[::-1]
    above_b = 1 - np.searchsorted(b, thresholds, "left") / len(b)
    above_a = 1 - np.searchsorted(a, thresholds, "left") / len(a)
    return Roc((0.0, *above_b.tolist()), (0.0, *above_a.tolist()))


def auc(benign: Scores, attacked: Scores, seed: int = 0) -> Estimate:
    """Estimate the area under the curve, with the 95 % interval of a bootstrap over both groups.

    Returns:
        The estimate; `NOTHING` where a group is empty.
    """
    b, a = numbers(benign), numbers(attacked)
    if not len(b) or not len(a):
        return NOTHING
    won = (a[:, None] > b) + 0.5 * (a[:, None] == b)  # (attacked, benign)
    rng = np.random.default_rng(seed)
    of_a, of_b = (rng.multinomial(n, np.full(n, 1 / n), RESAMPLED) / n for n in (len(a), len(b)))
    low, high = np.quantile(((of_a @ won) * of_b).sum(1), (0.025, 0.975))
    return Estimate(float(won.mean()), float(low), float(high), len(a))


def detection(benign: Scores, attacked: Scores, false_alarms: float) -> Estimate:
    """Estimate the share of attacked images that are found at a rate of false alarms, in (0, 1).

    Returns:
        The estimate; `NOTHING` where there are too few benign images for this rate.
    """
    b, a = numbers(benign), numbers(attacked)
    if len(b) < conformal.scores_needed(false_alarms):
        return NOTHING
    threshold = conformal.threshold(b.tolist(), false_alarms)
    return rate((a > threshold).tolist())
