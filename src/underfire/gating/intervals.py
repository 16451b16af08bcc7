"""95 % intervals that a gate can decide on, each side wrong in about 2.5 % of cases. Photos are the clusters.

Rates have Clopper and Pearson's interval (1934). Wilson's, which reports show, is right in the mean, but its one side
is wrong in up to 17 % of cases where a rate is near 0 or 1, which is where gates stand. Means have the studentized
bootstrap (Efron and Tibshirani 1993, section 12.5), since distances are skewed. The difference of two rates on the
same photos has Tango's score interval (1998), which agrees with McNemar's test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from underfire.metrics.estimate import NOTHING, Estimate

Z = float(stats.norm.ppf(0.975))
FEWEST = 12
"""Photos that an interval of a mean needs: with fewer, a bootstrap of skewed distances is wrong too often."""
RESAMPLES = 1_999
_CHUNK = 1 << 22
"""Numbers that are drawn at a time."""


def exact_rate(values: Sequence[float]) -> Estimate:
    """Estimate a rate from one value a photo, with Clopper and Pearson's interval.

    Args:
        values: in [0, 1]. A share, from a photo with several rows, counts as a share of a hit: its spread is never
            larger than that of a yes or no with the same mean, so that the interval is rather too wide.
    """
    n = len(values)
    if not n:
        return NOTHING
    hits = float(np.sum(values))
    low = float(stats.beta.ppf(0.025, hits, n - hits + 1)) if hits > 0 else 0.0
    high = float(stats.beta.ppf(0.975, hits + 1, n - hits)) if hits < n else 1.0
    return Estimate(hits / n, low, high, n)


def studentized_mean(values: Sequence[float], most: float | None = None, least: float | None = 0.0) -> Estimate:
    """Estimate a mean from one value a photo, with the studentized bootstrap's interval; the same values, the same.

    Args:
        values: finite numbers.
        most: the largest value that is possible, where the interval ends; None where there is none.
        least: the smallest, likewise.

    Returns:
        The estimate, without an interval where there are fewer than `FEWEST` values.
    """
    n = len(values)
    if not n:
        return NOTHING
    x = np.sort(np.asarray(values, np.float64))  # the same interval in whatever order the photos come
    middle = float(x.mean())
    if n < FEWEST:
        return Estimate(middle, None, None, n)
    if x[0] == x[-1]:
        return Estimate(middle, *without_spread(middle, n, most, least), n)
    pivots = _pivots(x)
    error = float(x.std(ddof=1)) / math.sqrt(n)
    low, high = (middle - float(end) * error for end in np.quantile(pivots, [0.975, 0.025]))
    low, high = min(low, middle), max(high, middle)
    if len(pivots) < 0.975 * RESAMPLES and most is not None and least is not None:
        wide = _of_one_value(x, most, least)
        low, high = min(low, wide[0]), max(high, wide[1])
    return Estimate(middle, low if least is None else max(low, least), high if most is None else min(high, most), n)


def without_spread(value: float, n: int, most: float | None, least: float | None) -> tuple[float, float]:
    """Compute the interval of a mean where all ``n`` photos have one value.

    A share q of photos, of which none was seen, may have any possible value; q is the upper end for 0 hits among n.
    Where there is no largest value (passes, if the attack always takes all its steps), the value is taken as it is.
    """
    if most is None or least is None:
        return value, value
    q = 1 - float(0.025 ** (1 / n))
    return (1 - q) * value + q * least, (1 - q) * value + q * most


def _of_one_value(x: NDArray[np.float64], most: float, least: float) -> tuple[float, float]:
    """Compute the interval of a mean where all photos but a few have one value, so that many resamples have no spread.

    These have no pivot, and they are those that have missed the few: the bootstrap would take these for more common
    than they are. As in `without_spread`, a share q of photos may have any possible value.
    """
    values, counts = np.unique(x, return_counts=True)
    common, few = float(values[counts.argmax()]), len(x) - int(counts.max())
    q = float(stats.beta.ppf(0.975, few + 1, len(x) - few))
    return (1 - q) * common + q * least, (1 - q) * common + q * most


def _pivots(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute (mean* − mean) / error* of resamples; those without spread have none."""
    rng, n, found = np.random.default_rng(0), len(x), []
    for start in range(0, RESAMPLES, step := max(1, _CHUNK // n)):
        drawn = x[rng.integers(0, n, (min(step, RESAMPLES - start), n))]
        errors = drawn.std(1, ddof=1) / math.sqrt(n)
        spread = drawn.max(1) > drawn.min(1)  # the error of equal numbers is not 0, but rounding
        found.append((drawn.mean(1)[spread] - x.mean()) / errors[spread])
    return np.concatenate(found)


def mcnemar(more: int, less: int) -> float:
    """Compute McNemar's exact two-sided p-value.

    Args:
        more: photos that say yes only now.
        less: photos that said yes only before.
    """
    return 1.0 if more + less == 0 else float(stats.binomtest(more, more + less, 0.5).pvalue)


def paired_rate(more: int, less: int, n: int) -> Estimate:
    """Estimate the difference of two rates on the same ``n`` photos, with Tango's interval; arguments as above."""
    if not n:
        return NOTHING
    seen = (more - less) / n

    def end(side: float, far: float) -> float:
        if seen == far or side * score(more, less, n, far) < Z:
            return far
        return float(optimize.brentq(lambda d: side * score(more, less, n, d) - Z, seen, far, xtol=1e-10))

    return Estimate(seen, end(1.0, -1.0), end(-1.0, 1.0), n)


def score(more: int, less: int, n: int, d: float) -> float:
    """Compute Tango's score of a difference ``d``: large where the seen difference lies far above it."""
    return float(scores(np.asarray([more]), np.asarray([less]), n, d)[0])


def scores(more: NDArray[np.int64], less: NDArray[np.int64], n: int, d: float) -> NDArray[np.float64]:
    """Compute the scores of many tables: z = (b − c − n d) / √(n (2 q + d (1 − d))).

    q is the most likely share of photos that said yes only before, where the difference is ``d``: the larger root of
    2n q² − (b + c − (2n − b + c) d) q − c d (1 − d).
    """
    b = (2 * n - more + less) * d - more - less
    q = (np.sqrt(np.maximum(b * b + 8 * n * less * d * (1 - d), 0)) - b) / (4 * n)
    variance = n * (2 * q + d * (1 - d))
    above = more - less - n * d
    with np.errstate(divide="ignore", invalid="ignore"):
        z = above / np.sqrt(np.maximum(variance, 0))
    return np.where(above == 0, 0.0, z)
