"""Detection: how well a score tells attacked images from benign ones. It imports no torch.

AUC = P(s(attacked) > s(benign)) + ½ P(s(attacked) = s(benign))
detection at a: P(s(attacked) > t), where t is the conformal threshold of the benign scores for false alarms a

An attacked photo is never among the negatives that it is compared with.
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
Pairing = tuple[Sequence[str], Sequence[str]] | None
"""Which photo each benign and each attacked image shows."""
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


def auc(benign: Scores, attacked: Scores, seed: int = 0, photos: Pairing = None) -> Estimate:
    """Estimate the area under the curve, with the 95 % interval of a bootstrap.

    Args:
        benign: scores of benign images.
        attacked: scores of attacked images.
        seed: of the bootstrap.
        photos: which photo each image shows. Then no attacked image is compared with its own photo, and the bootstrap
            draws photos, with all their images on either side. None: no photo is on both sides or there twice.

    Returns:
        The estimate; `NOTHING` where a group is empty, or all attacked images have is their own photo.
    """
    b, a = numbers(benign), numbers(attacked)
    if not len(b) or not len(a):
        return NOTHING
    won = (a[:, None] > b) + 0.5 * (a[:, None] == b)  # (attacked, benign)
    rng = np.random.default_rng(seed)
    if photos is None:
        of_a, of_b = (rng.multinomial(n, np.full(n, 1 / n), RESAMPLED) / n for n in (len(a), len(b)))
        drawn = ((of_a @ won) * of_b).sum(1)
        low, high = np.quantile(drawn, (0.025, 0.975))
        return Estimate(float(won.mean()), float(low), float(high), len(a))
    names, index = np.unique([*photos[1], *photos[0]], return_inverse=True)
    mine, theirs = index[: len(a)], index[len(a) :]
    others = (mine[:, None] != theirs).astype(np.float64)
    if not others.any():
        return NOTHING
    weights = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLED).astype(np.float64)
    over = ((weights[:, mine] @ others) * weights[:, theirs]).sum(1)
    drawn = ((weights[:, mine] @ (won * others)) * weights[:, theirs]).sum(1)[over > 0] / over[over > 0]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Estimate(float((won * others).sum() / others.sum()), float(low), float(high), len(a), _fewer(mine))


def detection(benign: Scores, attacked: Scores, false_alarms: float, photos: Pairing = None) -> Estimate:
    """Estimate the share of attacked images that are found at a rate of false alarms, in (0, 1).

    Args:
        benign: scores of benign images.
        attacked: scores of attacked images.
        false_alarms: the rate.
        photos: which photo each image shows. Then the threshold for an attacked image is that of the other photos.

    Returns:
        The estimate; `NOTHING` where there are too few benign images for this rate.
    """
    b, a = numbers(benign), numbers(attacked)
    needed = conformal.scores_needed(false_alarms)
    if photos is None:
        if len(b) < needed:
            return NOTHING
        threshold = conformal.threshold(b.tolist(), false_alarms)
        return rate((a > threshold).tolist())
    own = dict(zip(photos[0], b.tolist(), strict=True))
    if len(b) - 1 < needed:
        return NOTHING
    ordered = np.sort(b).tolist()
    whole = conformal.threshold(ordered, false_alarms)
    up, down = (conformal.threshold(rest, false_alarms) for rest in (ordered[1:], ordered[:-1]))
    # without a score up to the threshold the next one above takes its place
    limits = [whole if p not in own else up if own[p] <= down else down for p in photos[1]]
    return rate((a > np.asarray(limits)).tolist(), photos[1])


def _fewer(photos: NDArray[np.int64]) -> int | None:
    """Count the photos, where they are fewer than the images."""
    n = len(np.unique(photos))
    return n if n < len(photos) else None
