"""How many photos a rule would need: the fewest that decide it in 80 % of cases, if the truth is what was seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from underfire.gating.intervals import FEWEST, Z, scores, without_spread

POWER = 0.8
MOST = 100_000
"""Photos beyond which there is no answer: the rate seen is too close to the bound."""
TRIALS = 2_000
"""Simulated audits, where the chance has no formula."""


def fewest(chance: Callable[[int], float], least: int = 1) -> int | None:
    """Find about the smallest n whose chance to be decided is at least `POWER`; None beyond `MOST`.

    The chance of whole numbers of hits goes up and down a little as n grows, so a smaller n may sometimes do.
    """
    low, high = least - 1, least
    while chance(high) < POWER:
        low, high = high, 2 * high
        if high > MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if chance(middle) >= POWER else (middle, high)
    return high


def photos_for_rate(seen: float, limit: float, least: int = 1) -> int | None:
    """Count the photos at which Clopper and Pearson's interval leaves ``limit`` on one side.

    Args:
        seen: the rate seen.
        limit: the rule's bound.
        least: photos that are there already.
    """
    if seen == limit:
        return None

    def chance(n: int) -> float:
        # Clopper and Pearson's upper end of x hits is at most L where P(X ≤ x | L) is at most 2.5 %; below likewise.
        if seen < limit:
            return float(stats.binom.cdf(stats.binom.ppf(0.025, n, limit) - 1, n, seen))
        return float(stats.binom.sf(stats.binom.isf(0.025, n, limit), n, seen))

    return fewest(chance, least)


def photos_for_mean(
    values: Sequence[float], limit: float, least: int = 1, most: float | None = None, lowest: float | None = 0.0
) -> int | None:
    """Count the photos at which a mean's interval leaves ``limit`` on one side: the power of Student's test.

    Args:
        values: one for each photo.
        limit: the rule's bound.
        least: photos that are there already.
        most: the largest possible value; None where there is none.
        lowest: the smallest, likewise.
    """
    if len(values) < 2:
        return max(FEWEST, least)  # without a spread, the least that any mean needs
    away, spread = abs(float(np.mean(values)) - limit), float(np.std(values, ddof=1))
    if away == 0:
        return None

    def chance(n: int) -> float:
        if min(values) == max(values):
            low, high = without_spread(float(np.mean(values)), n, most, lowest)
            return float(high <= limit or low > limit)
        found = float(stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, away * math.sqrt(n) / spread))
        return 1.0 if math.isnan(found) else found  # so far away that the formula gives up

    return fewest(chance, max(FEWEST, least))


def photos_for_difference(more: int, less: int, n: int, limit: float, least: int = 1) -> int | None:
    """Count the photos at which Tango's interval of a difference leaves ``limit`` on one side, by simulation.

    Args:
        more: photos that say yes only now.
        less: photos that said yes only before.
        n: photos that both audits have.
        limit: the difference that the rule allows.
        least: photos that are there already.
    """
    seen = (more - less) / n
    if seen == limit:
        return None
    shares = [more / n, less / n, 1 - (more + less) / n]

    def chance(size: int) -> float:
        drawn = np.random.default_rng(size).multinomial(size, shares, TRIALS)
        z = scores(drawn[:, 0], drawn[:, 1], size, limit)
        return float(np.mean(z <= -Z if seen < limit else z > Z))

    return fewest(chance, least)
