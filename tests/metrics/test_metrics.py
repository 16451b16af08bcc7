"""Rates and means against formulas written out by hand; nothing measured is None with n = 0, never 0.0."""

from __future__ import annotations

from math import sqrt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from underfire.metrics.estimate import NOTHING, Estimate, mean, rate
from underfire.metrics.summary import CELL, summarise

Z = 1.959963984540054  # 97.5 % quantile of the normal distribution


def wilson(k: int, n: int) -> tuple[float, float]:
    p = k / n
    middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return middle - half, middle + half


@given(st.lists(st.sampled_from([True, False, None]), max_size=30))
def test_rate_is_wilsons(flags: list[bool | None]) -> None:
    known = [flag for flag in flags if flag is not None]
    got = rate(flags)
    if not known:
        assert got == NOTHING
        return
    low, high = wilson(sum(known), len(known))
    assert got.n == len(known)
    assert got.value == sum(known) / len(known)
    assert got.low == pytest.approx(low, abs=1e-12)
    assert got.high == pytest.approx(high, abs=1e-12)


def test_all_of_ten_is_not_surely_all() -> None:
    got = rate([True] * 10)
    assert (got.value, got.n) == (1.0, 10)
    assert got.low == pytest.approx(0.7225, abs=1e-4)
    assert got.high == pytest.approx(1)


def test_nothing_measured_is_none_and_not_zero() -> None:
    assert rate([]) == rate([None, None]) == mean([]) == Estimate(None, None, None, 0)


def test_symmetric_values_have_students_interval() -> None:
    got = mean([1.0, 2.0, 4.0, 5.0])
    half = 3.182446305284263 * sqrt(10 / 3) / sqrt(4)  # t of 3 degrees of freedom, 97.5 %
    assert (got.value, got.n) == (3.0, 4)
    assert got.low == pytest.approx(3 - half)
    assert got.high == pytest.approx(3 + half)


def test_skewed_values_have_halls_interval() -> None:
    """The ends solve g(T) = ±t, g(T) = T + γT²/3 + γ²T³/27 + γ/6n (Hall 1992), T = (mean − end)/s."""
    x = [1.0, 1.0, 2.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 8.0]
    got, n = mean(x), 10
    s = sqrt(sum((v - 3) ** 2 for v in x) / 9)
    skew = (sum((v - 3) ** 3 for v in x) / n) / (sum((v - 3) ** 2 for v in x) / n) ** 1.5 * sqrt(n * (n - 1)) / (n - 2)
    skew *= 1 + 6 / n  # ten values seldom show the tail
    assert got.low is not None and got.high is not None
    for end, t in ((got.low, 2.262157162798205), (got.high, -2.262157162798205)):
        big_t = (3 - end) / s
        bent = big_t + skew * big_t**2 / 3 + skew**2 * big_t**3 / 27 + skew / (6 * n)
        assert bent == pytest.approx(t / sqrt(n), abs=1e-9)
    assert got.high - 3 > 3 - got.low, "the long tail is above"


def test_a_single_value_has_no_interval() -> None:
    assert mean([0.5]) == Estimate(0.5, None, None, 1)


def test_equal_values_have_an_interval_of_no_width() -> None:
    assert mean([0.5, 0.5]) == Estimate(0.5, 0.5, 0.5, 2)


def row(**values: Any) -> dict[str, Any]:
    measured = ("confidence", "map_l1", "map_iou", "map_rank", "goal_passes", "passes", "judge_passes", "seconds")
    plain: dict[str, Any] = dict.fromkeys(CELL, "x") | dict.fromkeys(measured, 1.0)
    plain |= {"error": None, "success": True, "forged": True, "untouched_l1": 0.1, "iou_curve": [1.0] * 8 + [None]}
    return plain | values


FAILED = {name: None for name in row() if name not in (*CELL, "error")}


def test_rows_are_grouped_by_their_cell_in_order_of_appearance() -> None:
    found = summarise([row(attack="pgd"), row(attack="adv2"), row(attack="pgd"), row(attack="pgd", eps=4)])
    assert [(s.cell["attack"], s.cell["eps"], s.n) for s in found] == [("pgd", "x", 2), ("adv2", "x", 1), ("pgd", 4, 1)]


@pytest.mark.parametrize("column", CELL)
def test_every_column_of_the_cell_separates(column: str) -> None:
    assert len(summarise([row(), row(**{column: "y"})])) == 2


def test_rows_with_an_error_are_counted_and_not_averaged() -> None:
    (found,) = summarise([row(map_l1=0.2), row(error="damaged", **FAILED), row(map_l1=0.4, success=False)])
    assert (found.n, found.errors) == (2, 1)
    assert found.success.value == 0.5
    assert found.map_l1.value == pytest.approx(0.3)


def test_a_cell_of_errors_alone_has_no_numbers() -> None:
    (found,) = summarise([row(error="damaged", **FAILED)])
    assert (found.n, found.errors, found.untouched_l1, found.iou_curve) == (0, 1, None, ())
    assert found.success == found.map_l1 == found.passes == NOTHING


def test_failures_of_the_attack_count_in_every_mean() -> None:
    (found,) = summarise([row(success=True, map_l1=0.0), row(success=False, map_l1=1.0)])
    assert found.map_l1.value == 0.5


def test_what_has_no_value_is_left_out_of_its_own_mean_only() -> None:
    (found,) = summarise([row(map_rank=None, forged=None), row(map_rank=0.5)])
    assert (found.map_rank.n, found.map_rank.value, found.forged.n, found.map_l1.n) == (1, 0.5, 1, 2)


def test_the_curve_averages_where_there_is_a_value() -> None:
    (found,) = summarise([row(iou_curve=[1.0, 0.5, None]), row(iou_curve=[0.0, None, None])])
    assert found.iou_curve == (0.5, 0.5, None)


def test_a_picture_without_a_map_stays_in_the_denominator() -> None:
    lost = row(error="no map", success=True, forged=None, linf_levels=8, confidence=None)
    never = row(**FAILED | {"error": "unreadable"})
    (found,) = summarise([row(), row(), lost, never])
    assert (found.n, found.errors) == (2, 2)
    assert (found.forged.value, found.forged.n) == (2 / 3, 3)
    assert (found.success.value, found.success.n) == (1.0, 3)
    (unjudged,) = summarise([row(forged=None), lost])
    assert unjudged.forged == NOTHING, "where nothing can be judged there is no rate"


def test_seeds_of_one_photo_are_one_cluster() -> None:
    (found,) = summarise([row(image_sha256=str(i // 3)) for i in range(12)])
    assert (found.forged.n, found.forged.photos, found.map_l1.photos) == (12, 4, 4)
