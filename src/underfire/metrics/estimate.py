"""Estimates of rates and means, with their 95 % intervals and the n behind them (method, section 5.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A mean or a rate with its 95 % interval.

    Args:
        value: the mean or rate; None where n is 0.
        low: lower end of the interval; None where there is none.
        high: upper end.
        n: number of values.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int


NOTHING = Estimate(None, None, None, 0)
"""The estimate from no values."""


def rate(flags: Sequence[bool | None]) -> Estimate:
    """Estimate the share of True, with Wilson's 95 % interval; None does not count."""
    known = [flag for flag in flags if flag is not None]
    if not known:
        return NOTHING
    interval = stats.binomtest(sum(known), len(known)).proportion_ci(0.95, method="wilson")
    return Estimate(sum(known) / len(known), float(interval.low), float(interval.high), len(known))


def mean(values: Sequence[float]) -> Estimate:
    """Estimate the mean, with Student's 95 % interval; a single value has no interval."""
    if not values:
        return NOTHING
    middle = float(np.mean(values))
    if len(values) == 1:
        return Estimate(middle, None, None, 1)
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return Estimate(middle, middle - half, middle + half, len(values))


def mean_curve(curves: list[list[float | None]]) -> tuple[float | None, ...]:
    """Average curves at each threshold, over those that have a value there; empty without curves."""
    columns = ([v for v in column if v is not None] for column in zip(*curves, strict=True))
    return tuple(float(np.mean(values)) if values else None for values in columns)
