"""Conformal thresholds (Vovk et al. 2005; method, section 6.1).

The threshold is the k-th smallest of n benign scores that are used for nothing else, k = ⌈(n + 1)(1 − a)⌉. A new benign
image from the same source then raises an alarm with probability a at most.

That is on average over calibrations. The share of new images above the k-th smallest of n scores is itself drawn from
Beta(n + 1 − k, k) (Wilks 1941): with confidence γ it is at most that distribution's γ-quantile. A *guaranteed*
threshold takes the smallest k for which this quantile is at most a (a one-sided tolerance limit); equal scores only
make it surer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import stats

from underfire.core import TooFewError, UnderfireError

FIT_EVERY = 4
"""One image in so many gives the statistics; the others give the threshold."""


def images_needed(false_alarms: float, confidence: float | None = None) -> int:
    """Count the benign images that an alarm with this rate of false alarms needs at least."""
    scores = scores_needed(false_alarms, confidence)
    return next(n for n in range(scores, 10**9) if n >= 2 and n - fitted(n) >= scores)


def scores_needed(false_alarms: float, confidence: float | None = None) -> int:
    """Count the scores that a threshold for this rate needs at least.

    Args:
        false_alarms: a, in (0, 1).
        confidence: γ in (0, 1): log(1 − γ) / log(1 − a) scores; None, on average: 1/a − 1.
    """
    if confidence is None:
        return max(1, math.ceil(round(1 / false_alarms - 1, 9)))
    return max(1, math.ceil(round(math.log(1 - confidence) / math.log(1 - false_alarms), 9)))


def rank(n: int, false_alarms: float, confidence: float | None = None) -> int:
    """Give k: which of n ascending scores is the threshold; n + 1 where they are too few.

    Args:
        n: number of scores.
        false_alarms: a, in (0, 1).
        confidence: γ of a guaranteed threshold; None: on average.
    """
    if confidence is None:
        return math.ceil(round((n + 1) * (1 - false_alarms), 9))
    # the k-th score exceeds a share 1 − a of all images where fewer than k of n draws fall below it
    return int(stats.binom.ppf(confidence, n, 1 - false_alarms)) + 1


def expected(n: int, k: int) -> float:
    """Give the share of new images above the k-th smallest of n scores, on average over calibrations."""
    return (n + 1 - k) / (n + 1)


def bound(n: int, k: int, confidence: float) -> float:
    """Give the share of new images above the k-th smallest of n scores, at most, with this confidence."""
    return float(stats.beta.ppf(confidence, n + 1 - k, k))


def fitted(n: int) -> int:
    """Count the images, of ``n``, that give the statistics."""
    return max(2, -(-n // FIT_EVERY))


def threshold(
    scores: Sequence[float], false_alarms: float, unexplained: int = 0, confidence: float | None = None
) -> float:
    """Return the k-th smallest score, k as `rank` says.

    Args:
        scores: of benign images.
        false_alarms: a, the share of benign images that may raise an alarm, in (0, 1).
        unexplained: number of further images without a score, which count as higher than all scores.
        confidence: γ of a guaranteed threshold; None: on average over calibrations.

    Raises:
        UnderfireError: there are too few for this rate.
    """
    n = len(scores) + unexplained
    k = rank(n, false_alarms, confidence)
    if k > n:
        sure = "" if confidence is None else f" with --confidence {confidence:g}"
        raise TooFewError(
            f"--false-alarms {false_alarms:g}{sure} needs at least {images_needed(false_alarms, confidence)} benign "
            "images: give more, or allow more false alarms."
        )
    if k > len(scores):
        raise UnderfireError(
            f"Some member has no map of {unexplained} of the {n} benign images, and each of these is an alarm: more "
            f"than --false-alarms {false_alarms:g} allows. Leave that member out."
        )
    return sorted(scores)[k - 1]
