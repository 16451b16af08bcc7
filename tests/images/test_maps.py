"""Map scaling and distances at their edges; loops that they agree with are in support/replicas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from scipy import stats

from support.replicas.maps import Array, arrays_of
from underfire.images import maps
from underfire.images.inferno import TABLE, inferno


def test_a_constant_map_becomes_zeros_with_a_modest_gradient() -> None:
    raw = torch.full((2, 3, 3), 0.7, requires_grad=True)
    scaled = maps.unit_scale(raw)
    maps.l2(scaled, torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(0))).sum().backward()  # type: ignore[no-untyped-call]
    assert not scaled.any()
    assert raw.grad is not None
    assert float(raw.grad.abs().max()) < 1


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6, 1e30])
def test_unit_scale_reaches_both_ends_at_any_scale(scale: float) -> None:
    raw = scale * torch.tensor([[[-1.0, 0.0], [2.0, 3.0]]])
    torch.testing.assert_close(maps.unit_scale(raw), torch.tensor([[[0.0, 0.25], [0.75, 1.0]]]))


@given(arrays_of(1))
def test_top_weights_sum_to_k_and_treat_ties_alike(one: tuple[Array]) -> None:
    (m,) = one
    weights = maps.top_weights(m)
    assert weights.sum() == pytest.approx(max(1, round(0.2 * m.size)))
    assert weights.min() >= 0
    assert weights.max() <= 1
    for value in set(m.ravel()):
        assert len(set(weights[m == value])) == 1


def test_a_flat_map_has_no_accidental_top() -> None:
    assert set(maps.top_weights(np.full((5, 5), 0.3)).ravel()) == {0.2}


@given(arrays_of(2))
def test_iou_is_symmetric_in_the_unit_interval_and_one_for_equals(pair: tuple[Array, Array]) -> None:
    a, b = pair
    assert maps.iou(a, b) == pytest.approx(maps.iou(b, a))
    assert 0 <= maps.iou(a, b) <= 1
    assert maps.iou(a, a) == 1


def test_iou_of_disjoint_tops_is_zero() -> None:
    a = np.zeros((5, 5))
    a[0] = 1
    assert maps.iou(a, a[::-1]) == 0


def test_iou_does_not_see_float32() -> None:
    a = np.linspace(0, 1, 49).reshape(7, 7)
    assert maps.iou(a.astype(np.float32), a) == 1


def test_iou_curve_has_no_number_where_both_sets_are_empty() -> None:
    assert maps.iou_curve(np.full((2, 2), 0.45), np.full((2, 2), 0.25)) == [1, 1, 0, 0, None, None, None, None, None]


def test_rank_of_a_monotone_change_is_one_and_of_a_reversal_minus_one() -> None:
    a = np.random.default_rng(0).random((4, 4))
    assert maps.rank(a, a**3) == pytest.approx(1)
    assert maps.rank(a, 1 - a) == pytest.approx(-1)


def test_crossed_sees_the_edge_of_the_brightest_fifth_alone() -> None:
    wanted = torch.arange(10.0).view(1, 1, 10) / 10  # the brightest fifth is 0.8 and 0.9, its edge 0.75
    inside = wanted + torch.where(wanted > 0.75, 0.1, -0.1)
    assert float(maps.crossed(inside, wanted)) == 0
    out = wanted.clone()
    out[..., 9], out[..., 0] = 0.55, 0.85  # one has fallen below the edge by 0.2, another has risen above it by 0.1
    torch.testing.assert_close(maps.crossed(out, wanted), torch.tensor([(0.2**2 + 0.1**2) / 10]))
    torch.testing.assert_close(maps.apart(out, wanted, 3.0), maps.l2(out, wanted) + 3 * maps.crossed(out, wanted))
    assert torch.equal(maps.apart(out, wanted), maps.l2(out, wanted))


def test_rank_as_shown_sees_levels_and_nothing_between_them() -> None:
    rng = np.random.default_rng(0)
    a = rng.random((9, 7))
    b = (a + 0.3 * rng.random((9, 7))).clip(0, 1)
    colours = [inferno(m).reshape(-1, 3) for m in (a, b)]
    shown = [[int((c == 255 * TABLE).all(1).argmax()) for c in of] for of in colours]  # from the picture, back
    assert maps.rank_shown(a, b) == pytest.approx(stats.spearmanr(*shown).statistic, abs=1e-12)
    dark = np.where(rng.random((9, 7)) < 0.9, 1e-4 * rng.random((9, 7)), 1.0)
    other = np.where(dark == 1, 1.0, 1e-4 * rng.random((9, 7)))
    assert maps.rank(dark, other) is not None and (maps.rank(dark, other) or 0) < 0.8
    assert maps.rank_shown(dark, other) == pytest.approx(1)
    assert maps.rank_shown(dark, 1e-3 * a) == 0, "all of it is shown in one level"
