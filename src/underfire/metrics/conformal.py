"""Conformal thresholds (Vovk et al. 2005).

Of n benign scores that had no part in anything else the threshold is the k-th smallest, k = ⌈(n + 1)(1 − a)⌉. The next
benign image, drawn like them, then raises an alarm with probability a at most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from underfire.core import UnderfireError

FIT_EVERY = 4
"""One image in so many teaches the statistics; the others, the threshold."""


def images_needed(false_alarms: float) -> int:
    """Benign images that a rate of false alarms needs at least."""
    return next(n for n in range(2, 10**9) if n - fitted(n) >= smallest(false_alarms))


def smallest(false_alarms: float) -> int:
    """Scores that a threshold for this rate needs at least: 1/a − 1."""
    return max(1, math.ceil(round(1 / false_alarms - 1, 9)))


def fitted(n: int) -> int:
    """Of ``n`` images so many teach the statistics."""
    return max(2, -(-n // FIT_EVERY))


def threshold(scores: Sequence[float], false_alarms: float, unexplained: int = 0) -> float:
    """The k-th smallest score, k = ⌈(n + 1)(1 − a)⌉; ``unexplained`` ones lie above all others.

    Raises:
        UnderfireError: there are too few for this rate.
    """
    n = len(scores) + unexplained
    k = math.ceil(round((n + 1) * (1 - false_alarms), 9))
    if k > n:
        raise UnderfireError(
            f"--false-alarms {false_alarms:g} needs at least {images_needed(false_alarms)} benign images: give more, "
            "or allow more false alarms."
        )
    if k > len(scores):
        raise UnderfireError(
            f"{unexplained} of {n} benign images have no map of some member, which is an alarm: that is more than "
            f"--false-alarms {false_alarms:g} of them. Leave that member out."
        )
    return sorted(scores)[k - 1]
