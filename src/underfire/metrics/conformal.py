"""Conformal thresholds (Vovk et al. 2005; method, section 6.1).

The threshold is the k-th smallest of n benign scores that are used for nothing else, k = ⌈(n + 1)(1 − a)⌉. A new benign
image from the same source then raises an alarm with probability a at most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from underfire.core import TooFewError, UnderfireError

FIT_EVERY = 4
"""One image in so many gives the statistics; the others give the threshold."""


def images_needed(false_alarms: float) -> int:
    """Count the benign images that an alarm with this rate of false alarms needs at least."""
    return next(n for n in range(2, 10**9) if n - fitted(n) >= scores_needed(false_alarms))


def scores_needed(false_alarms: float) -> int:
    """Count the scores that a threshold for this rate needs at least: 1/a − 1."""
    return max(1, math.ceil(round(1 / false_alarms - 1, 9)))


def fitted(n: int) -> int:
    """Count the images, of ``n``, that give the statistics."""
    return max(2, -(-n // FIT_EVERY))


def threshold(scores: Sequence[float], false_alarms: float, unexplained: int = 0) -> float:
    """Return the k-th smallest score, k = ⌈(n + 1)(1 − a)⌉.

    Args:
        scores: of benign images.
        false_alarms: a, the share of benign images that may raise an alarm, in (0, 1).
        unexplained: number of further images without a score, which count as higher than all scores.

    Raises:
        UnderfireError: there are too few for this rate.
    """
    n = len(scores) + unexplained
    k = math.ceil(round((n + 1) * (1 - false_alarms), 9))
    if k > n:
        raise TooFewError(
            f"--false-alarms {false_alarms:g} needs at least {images_needed(false_alarms)} benign images: give more, "
            "or allow more false alarms."
        )
    if k > len(scores):
        raise UnderfireError(
            f"Some member has no map of {unexplained} of the {n} benign images, and each of these is an alarm: more "
            f"than --false-alarms {false_alarms:g} allows. Leave that member out."
        )
    return sorted(scores)[k - 1]
