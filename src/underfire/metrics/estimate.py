"""Estimates of rates and means, with their 95 % intervals and the n behind them (method, section 5.4).

A photo may come in several trials (other seeds, other target classes). These are alike, so an interval counts photos
and not trials: a mean is the mean of the photos' means, and a rate's n is the number of independent trials that would
scatter as much (the effective sample size; Korn and Graubard 1998).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Z = float(stats.norm.ppf(0.975))
"""Quantile of the normal distribution that a 95 % interval reaches to."""
SHAPELESS = 10
"""Fewer values than this say nothing of their skewness: three of them would stretch an interval threefold."""
Photos = Sequence[Hashable] | None
"""Which photo each value belongs to; None: each to one of its own."""


@dataclass(frozen=True)
class Estimate:
    """A mean or a rate with its 95 % interval.

    Args:
        value: the mean or rate; None where n is 0.
        low: lower end of the interval; None where there is none.
        high: upper end.
        n: number of values.
        photos: number of photos that they come from, where those are fewer.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    photos: int | None = None

    @property
    def independent(self) -> int:
        """Number of photos behind it."""
        return self.n if self.photos is None else self.photos


NOTHING = Estimate(None, None, None, 0)
"""The estimate from no values."""


def rate(flags: Sequence[bool | None], photos: Photos = None) -> Estimate:
    """Estimate the share of True, with Wilson's 95 % interval; None does not count.

    Args:
        flags: one for each trial.
        photos: (len(flags),) which photo each belongs to.
    """
    known = [i for i, flag in enumerate(flags) if flag is not None]
    if not known:
        return NOTHING
    means = _photo_means([float(bool(flags[i])) for i in known], None if photos is None else [photos[i] for i in known])
    value, n = float(means.mean()), len(known)
    if len(means) == n:
        return Estimate(value, *wilson(value, n), n)
    return Estimate(value, *wilson(value, _effective(means, n)), n, len(means))


def wilson(share: float, n: float) -> tuple[float, float]:
    """Give Wilson's 95 % interval of a share of ``n`` trials; ``n`` need not be whole."""
    middle, root = share + Z * Z / (2 * n), Z * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    low, high = (middle - root) / (1 + Z * Z / n), (middle + root) / (1 + Z * Z / n)
    return (0.0 if share == 0 else max(0.0, low)), (1.0 if share == 1 else min(1.0, high))


def _effective(means: NDArray[np.float64], n: int) -> float:
    """Count the independent trials that scatter as these photos' means do: between the photos and the trials."""
    photos = len(means)
    if photos == 1:
        return 1.0
    fewer = (Z / float(stats.t.ppf(0.975, photos - 1))) ** 2  # the scatter itself is estimated
    scatter, value = float(means.var(ddof=1)) / photos, float(means.mean())
    found = value * (1 - value) / scatter if scatter > 0 else photos
    return min(max(found, float(photos)), float(n)) * fewer


def mean(values: Sequence[float], photos: Photos = None) -> Estimate:
    """Estimate the mean, with a 95 % interval that allows for skewed values; a single photo has no interval.

    Args:
        values: one for each trial.
        photos: (len(values),) which photo each belongs to; the mean is that of the photos' means.
    """
    if not values:
        return NOTHING
    means = _photo_means(values, photos)
    middle, n, k = float(means.mean()), len(values), len(means)
    low, high = _hall(means) if k > 1 else (None, None)
    return Estimate(middle, low, high, n, None if k == n else k)


def _hall(x: NDArray[np.float64]) -> tuple[float, float]:
    """Give Student's interval, its t transformed for the skewness of ``x`` (Hall 1992, J. R. Statist. Soc. B 54).

    Map distances are skewed: of 95 % intervals of 19 log-normal values Student's hold 86 %, these 93 %
    (`benchmarks/intervals.py`).
    """
    n, middle, sd = len(x), float(x.mean()), float(x.std(ddof=1))
    reach = float(stats.t.ppf(0.975, n - 1)) / math.sqrt(n)
    g = _skewness(x)

    def bent(t: float) -> float:
        return t if abs(g) < 1e-9 else 3 / g * (float(np.cbrt(1 + g * (t - g / (6 * n)))) - 1)

    return middle - sd * bent(reach), middle - sd * bent(-reach)


def _skewness(x: NDArray[np.float64]) -> float:
    """Estimate the skewness; 0 for values that are all the same, or too few to tell.

    Few values seldom show the tail, so that theirs is too small. The factor 1 + 6/n gives both ends of an interval of
    19 skewed values about the same share of misses.
    """
    n, away = len(x), x - x.mean()
    spread = float(np.mean(away**2))
    if n < SHAPELESS or spread <= (1e-12 * float(np.abs(x).max())) ** 2:
        return 0.0
    plain = float(np.mean(away**3)) / math.sqrt(spread) ** 3
    return plain * math.sqrt(n * (n - 1)) / (n - 2) * (1 + 6 / n)


def _photo_means(values: Sequence[float], photos: Photos) -> NDArray[np.float64]:
    """Average the values of each photo."""
    found = np.asarray(values, np.float64)
    if photos is None:
        return found
    of: dict[Hashable, list[float]] = {}
    for photo, value in zip(photos, values, strict=True):
        of.setdefault(photo, []).append(value)
    return found if len(of) == len(found) else np.asarray([np.mean(own) for own in of.values()], np.float64)


def mean_curve(curves: list[list[float | None]]) -> tuple[float | None, ...]:
    """Average curves at each threshold, over those that have a value there; empty without curves."""
    columns = ([v for v in column if v is not None] for column in zip(*curves, strict=True))
    return tuple(float(np.mean(values)) if values else None for values in columns)
