"""Intervals and tests against SciPy, statsmodels and slow replicas, on 1,000 random tables each."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_of_statsmodels
from statsmodels.stats.proportion import proportion_confint

from underfire.gating.intervals import (
    FEWEST,
    RESAMPLES,
    Z,
    exact_rate,
    mcnemar,
    paired_rate,
    score,
    scores,
    studentized_mean,
)

TABLES = 1_000


def _table(rng: np.random.Generator, most: int = 200) -> tuple[int, int, int]:
    n = int(rng.integers(1, most))
    more, less, _ = rng.multinomial(n, rng.dirichlet([0.5, 0.5, 0.5]))
    return int(more), int(less), n


def test_the_interval_of_a_rate_is_that_of_statsmodels_and_of_scipy() -> None:
    rng = np.random.default_rng(0)
    for _ in range(TABLES):
        n = int(rng.integers(1, 300))
        hits = int(rng.integers(0, n + 1))
        found = exact_rate([1.0] * hits + [0.0] * (n - hits))
        assert found.value == pytest.approx(hits / n)
        assert (found.low, found.high) == pytest.approx(proportion_confint(hits, n, 0.05, method="beta"), abs=1e-12)
        peer = stats.binomtest(hits, n).proportion_ci(0.95, method="exact")
        assert (found.low, found.high) == pytest.approx((peer.low, peer.high), abs=1e-9)


def test_each_side_of_the_interval_of_a_rate_is_wrong_in_2_5_percent_at_most_and_wilsons_is_not() -> None:
    worst = {"beta": 0.0, "wilson": 0.0}
    for n in (6, 32, 100):
        hits = np.arange(n + 1)
        for name in ("beta", "wilson"):
            low, high = proportion_confint(hits, n, 0.05, method=name)
            for p in np.linspace(0.002, 0.998, 250):
                weights = stats.binom.pmf(hits, n, p)
                worst[name] = max(worst[name], weights[low > p].sum(), weights[high < p].sum())
    assert worst["beta"] <= 0.025 + 1e-9
    assert worst["wilson"] > 0.1


def test_shares_of_a_photo_with_several_rows_make_the_interval_no_narrower() -> None:
    """Photos are clusters: 40 photos with 5 rows each are 40 values, and their interval is right or too wide."""
    rng, outside = np.random.default_rng(1), 0
    for _ in range(400):
        p = rng.beta(1, 4, 40)  # photos differ
        values = rng.binomial(5, p) / 5
        found = exact_rate(values.tolist())
        assert found.low is not None
        assert found.high is not None
        assert found.n == 40
        outside += not found.low <= 0.2 <= found.high
    assert outside / 400 <= 0.05


def test_mcnemar_is_that_of_statsmodels() -> None:
    rng = np.random.default_rng(2)
    for _ in range(TABLES):
        more, less, n = _table(rng)
        peer = mcnemar_of_statsmodels([[n - more - less, less], [more, 0]], exact=True)
        assert mcnemar(more, less) == pytest.approx(min(1.0, float(peer.pvalue)), abs=1e-12)


def test_tangos_score_is_the_one_of_the_likelihood_and_at_zero_mcnemars() -> None:
    rng = np.random.default_rng(3)
    for _ in range(TABLES):
        more, less, n = _table(rng, 80)
        d = float(rng.uniform(-0.9, 0.9))
        q = _most_likely(more, less, n, d)
        spread = math.sqrt(n * max(2 * q + d * (1 - d), 0.0))
        if spread > 1e-6:
            assert score(more, less, n, d) == pytest.approx((more - less - n * d) / spread, rel=1e-4, abs=1e-4)
        if more + less:
            peer = mcnemar_of_statsmodels([[n - more - less, less], [more, 0]], exact=False, correction=False)
            assert score(more, less, n, 0.0) ** 2 == pytest.approx(float(peer.statistic))


def _most_likely(more: int, less: int, n: int, d: float) -> float:
    """The share q of photos that said yes only before, where the difference is d, by a search over the likelihood."""
    low, high = max(0.0, -d), (1 - d) / 2

    def surprise(q: float) -> float:
        parts = ((more, q + d), (less, q), (n - more - less, 1 - 2 * q - d))
        return -sum(k * math.log(max(p, 1e-300)) for k, p in parts if k)

    found = optimize.minimize_scalar(surprise, bounds=(low, high), method="bounded", options={"xatol": 1e-12})
    return min((low, high, float(found.x)), key=surprise)


def test_the_paired_interval_ends_where_the_score_does() -> None:
    rng = np.random.default_rng(4)
    for _ in range(200):
        more, less, n = _table(rng, 80)
        found = paired_rate(more, less, n)
        assert found.low is not None
        assert found.high is not None
        assert -1 <= found.low <= (more - less) / n <= found.high <= 1
        for end, side in ((found.low, 1), (found.high, -1)):
            if abs(end) < 1:
                assert side * score(more, less, n, end) == pytest.approx(Z, abs=1e-4)
        swapped = paired_rate(less, more, n)
        assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low), abs=1e-8)


def test_each_side_of_the_paired_interval_is_wrong_in_5_percent_at_most() -> None:
    n = 32
    more, less = (axis.ravel() for axis in np.meshgrid(np.arange(n + 1), np.arange(n + 1)))
    more, less = more[more + less <= n], less[more + less <= n]
    wrong = []
    for a in (0.0, 0.02, 0.1, 0.4, 0.8):
        for b in (0.0, 0.02, 0.1):
            weights = stats.multinomial.pmf(np.stack([more, less, n - more - less], 1), n, [a, b, 1 - a - b])
            z = scores(more, less, n, a - b)
            wrong += [weights[z > Z].sum(), weights[z < -Z].sum()]
    assert max(wrong) < 0.05
    assert np.mean(wrong) < 0.025


def test_the_interval_of_a_mean_is_that_of_a_slow_loop() -> None:
    x = np.sort(np.random.default_rng(5).lognormal(0, 1, 20))
    rng, pivots = np.random.default_rng(0), []
    drawn = rng.integers(0, 20, (RESAMPLES, 20))
    for one in drawn:
        sample = [x[i] for i in one]
        middle = sum(sample) / 20
        variance = sum((v - middle) ** 2 for v in sample) / 19
        pivots.append((middle - x.mean()) / math.sqrt(variance / 20))
    error = stats.sem(x)
    found = studentized_mean(x[::-1].tolist())
    ends = np.percentile(pivots, [97.5, 2.5])
    assert (found.low, found.high) == pytest.approx(tuple(x.mean() - ends * error))


def test_a_mean_whose_spread_is_one_photo_is_as_wide_as_that_photo_may_be_common() -> None:
    found = studentized_mean([1.0] * 23 + [0.4], 1.0)
    assert found.low is not None and found.low < 0.85, "one outlier of 24 may be one of five"
    for n in (12, 24):  # each side wrong in 2.5 % at most, where a fifth of the photos has another value
        rng, truth = np.random.default_rng(n), 0.8 + 0.2 * 0.5
        drawn = (studentized_mean(np.where(rng.random(n) < 0.2, 0.5, 1.0).tolist(), 1.0) for _ in range(150))
        assert sum(one.low is not None and one.low > truth for one in drawn) <= 8


def test_equal_numbers_have_no_spread_whatever_their_rounding() -> None:
    same, whole = studentized_mean([9 / 11] * 20, 1.0), studentized_mean([0.5] * 20, 1.0)
    assert same.low is not None and same.high is not None and whole.low is not None
    assert same.low < 0.7 and same.high > 0.84 and whole.low < 0.45
    few = studentized_mean([9 / 11] * 18 + [8 / 12] * 2, 1.0)
    assert few.low is not None and few.low > 0.5


def test_the_interval_of_a_mean_is_students_where_the_values_are_normal() -> None:
    x = np.random.default_rng(6).normal(0.5, 0.1, 300)
    found = studentized_mean(x.tolist(), 1.0)
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 299, x.mean(), stats.sem(x)), abs=1e-3)


def test_a_mean_of_few_photos_or_of_none_has_no_interval_and_equal_values_have_a_wide_one() -> None:
    assert studentized_mean([]).value is None
    assert studentized_mean([0.5] * (FEWEST - 1)).low is None
    found = studentized_mean([1.0] * 20, 1.0)
    assert found.high == 1.0
    assert found.low == pytest.approx(proportion_confint(20, 20, 0.05, method="beta")[0])  # as a rate of 20 of 20
    passes = studentized_mean([300.0] * 20)
    assert (passes.low, passes.high) == (300.0, 300.0)
