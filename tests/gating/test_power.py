"""The photos that would decide: simulated audits of that size decide in 80 % of cases, a little smaller ones do not."""

from __future__ import annotations

import numpy as np
import pytest

from underfire.gating.intervals import FEWEST, exact_rate, paired_rate, studentized_mean
from underfire.gating.power import photos_for_difference, photos_for_mean, photos_for_rate

AUDITS = 400
LUCK = 0.05
"""Two and a half standard errors of 80 % in so many audits."""


@pytest.mark.parametrize(
    ("seen", "limit"), [(0.0, 0.1), (0.05, 0.2), (0.3, 0.1), (0.9, 0.75), (1.0, 0.9), (0.5, 0.42), (0.97, 0.9)]
)
def test_enough_photos_for_a_rate(seen: float, limit: float) -> None:
    n = photos_for_rate(seen, limit)
    assert n is not None
    assert _decided_rate(seen, limit, n) >= 0.8 - LUCK
    assert _decided_rate(seen, limit, max(1, int(0.8 * n))) < 0.8


def _decided_rate(seen: float, limit: float, n: int) -> float:
    hits = np.random.default_rng(0).binomial(n, seen, AUDITS)
    answers = {k: _clear(exact_rate([1.0] * k + [0.0] * (n - k)), limit, seen < limit) for k in set(hits.tolist())}
    return float(np.mean([answers[k] for k in hits.tolist()]))


def _clear(found: object, limit: float, below: bool) -> bool:
    low, high = found.low, found.high  # type: ignore[attr-defined]
    return bool(high <= limit if below else low > limit)


@pytest.mark.parametrize(("more", "less", "n", "limit"), [(0, 0, 32, 0.1), (10, 2, 40, 0.1), (3, 3, 30, 0.15)])
def test_enough_photos_for_a_difference(more: int, less: int, n: int, limit: float) -> None:
    needed = photos_for_difference(more, less, n, limit)
    assert needed is not None
    shares = [more / n, less / n, 1 - (more + less) / n]
    below = (more - less) / n < limit
    for size, enough in ((needed, True), (int(0.75 * needed), False)):
        drawn = np.random.default_rng(1).multinomial(size, shares, AUDITS)[:, :2]
        answers = {
            (a, b): _clear(paired_rate(a, b, size), limit, below) for a, b in {(int(a), int(b)) for a, b in drawn}
        }
        decided = np.mean([answers[int(a), int(b)] for a, b in drawn])
        assert decided >= 0.8 - LUCK if enough else decided < 0.8


@pytest.mark.parametrize("limit", [0.56, 0.45])
def test_enough_photos_for_a_mean(limit: float) -> None:
    values = np.random.default_rng(2).normal(0.5, 0.1, 20)
    values = (values - values.mean()) / values.std(ddof=1) * 0.1 + 0.5
    n = photos_for_mean(values.tolist(), limit)
    assert n is not None
    rng = np.random.default_rng(3)
    audits = [studentized_mean(rng.normal(0.5, 0.1, n).tolist(), 1.0) for _ in range(AUDITS)]
    assert np.mean([_clear(found, limit, limit > 0.5) for found in audits]) >= 0.8 - LUCK


def test_where_no_number_is_known_there_is_none() -> None:
    assert photos_for_rate(0.1, 0.1) is None
    assert photos_for_rate(0.1, 0.1001) is None  # millions
    assert photos_for_difference(1, 1, 10, 0.0) is None
    assert photos_for_mean([0.5, 0.5], 0.5) is None
    assert photos_for_mean([0.5], 0.4) == FEWEST


def test_photos_without_spread_are_not_taken_for_all_photos() -> None:
    n = photos_for_mean([1.0] * 15, 0.9, 15, 1.0)
    assert n is not None
    assert studentized_mean([1.0] * n, 1.0).low >= 0.9  # type: ignore[operator]
    assert studentized_mean([1.0] * (n - 1), 1.0).low < 0.9  # type: ignore[operator]
