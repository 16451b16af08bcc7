"""Map scaling and distances against slow, obvious loops in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from underfire.images import maps

Array = np.ndarray[Any, Any]

_shape = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=7)
_value = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1, width=32))  # ties are common


@st.composite
def one_map(draw: st.DrawFn) -> Array:
    return draw(arrays(np.float64, draw(_shape), elements=_value))


@st.composite
def two_maps(draw: st.DrawFn) -> tuple[Array, Array]:
    shape = draw(_shape)
    a, b = (draw(arrays(np.float64, shape, elements=_value)) for _ in range(2))
    return a, b


def slow_weights(m: Array, share: float = 0.2) -> Array:
    """Hand the k places out one value at a time, from the largest; those who do not all fit share."""
    places = float(max(1, round(share * m.size)))
    weights = np.zeros(m.shape)
    for value in sorted(set(m.ravel()), reverse=True):
        holders = [index for index in np.ndindex(m.shape) if m[index] == value]
        for index in holders:
            weights[index] = min(1.0, places / len(holders))
        places = max(0.0, places - len(holders))
    return weights


def slow_rank(m: Array) -> list[float]:
    """Ranks from 1; tied values get their mean rank."""
    flat = list(m.ravel())
    return [sum(v < w for v in flat) + (sum(v == w for v in flat) + 1) / 2 for w in flat]


@given(two_maps())
def test_l1_and_l2_are_means_over_pixels(pair: tuple[Array, Array]) -> None:
    a, b = pair
    ta, tb = torch.from_numpy(a)[None], torch.from_numpy(b)[None]
    difference = [x - y for x, y in zip(a.ravel(), b.ravel(), strict=True)]
    assert float(maps.l1(ta, tb)) == pytest.approx(sum(abs(d) for d in difference) / a.size)
    assert float(maps.l2(ta, tb)) == pytest.approx(sum(d * d for d in difference) / a.size)


def test_distances_are_per_image() -> None:
    a = torch.zeros(2, 3, 3)
    b = torch.stack([torch.zeros(3, 3), torch.ones(3, 3)])
    assert maps.l1(a, b).tolist() == maps.l2(a, b).tolist() == [0, 1]


@given(arrays(np.float64, (3, 2, 4), elements=st.floats(-1e6, 1e6)))
def test_unit_scale_against_a_loop(raw: Array) -> None:
    scaled = maps.unit_scale(torch.from_numpy(raw)).numpy()
    for one, got in zip(raw, scaled, strict=True):
        span = max(one.ravel()) - min(one.ravel())
        for index in np.ndindex(one.shape):
            expected = (one[index] - min(one.ravel())) / span if span > 0 else 0.0
            assert got[index] == pytest.approx(expected, abs=1e-12)


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


def test_resize_is_bilinear_without_aligned_corners() -> None:
    m = torch.tensor([[[0.0, 1.0]]], dtype=torch.float64)
    assert maps.resize(m, (1, 4))[0, 0].tolist() == pytest.approx([0, 0.25, 0.75, 1])


@given(one_map(), st.floats(0.01, 1))
def test_top_weights_against_a_loop(m: Array, share: float) -> None:
    np.testing.assert_allclose(maps.top_weights(m, share), slow_weights(m, share), atol=1e-12)


@given(one_map())
def test_top_weights_sum_to_k_and_treat_ties_alike(m: Array) -> None:
    weights = maps.top_weights(m)
    assert weights.sum() == pytest.approx(max(1, round(0.2 * m.size)))
    assert weights.min() >= 0
    assert weights.max() <= 1
    for value in set(m.ravel()):
        assert len(set(weights[m == value])) == 1


def test_a_flat_map_has_no_accidental_top() -> None:
    assert set(maps.top_weights(np.full((5, 5), 0.3)).ravel()) == {0.2}


@given(two_maps())
def test_iou_against_a_loop(pair: tuple[Array, Array]) -> None:
    wa, wb = slow_weights(pair[0]).ravel(), slow_weights(pair[1]).ravel()
    both = sum(min(u, v) for u, v in zip(wa, wb, strict=True))
    either = sum(max(u, v) for u, v in zip(wa, wb, strict=True))
    assert maps.iou(*pair) == pytest.approx(both / either)


@given(two_maps())
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


@given(two_maps())
def test_iou_curve_against_sets(pair: tuple[Array, Array]) -> None:
    for t, value in zip(range(1, 10), maps.iou_curve(*pair), strict=True):
        sets = [{i for i, v in enumerate(m.ravel()) if v >= round(t / 10, 1)} for m in pair]
        either = sets[0] | sets[1]
        assert value == (pytest.approx(len(sets[0] & sets[1]) / len(either)) if either else None)


def test_iou_curve_has_no_number_where_both_sets_are_empty() -> None:
    assert maps.iou_curve(np.full((2, 2), 0.45), np.full((2, 2), 0.25)) == [1, 1, 0, 0, None, None, None, None, None]


@given(two_maps())
def test_rank_is_the_correlation_of_ranks(pair: tuple[Array, Array]) -> None:
    got = maps.rank(*pair)
    if any(len(set(m.ravel())) == 1 for m in pair):
        assert got is None
        return
    ra, rb = (np.array(slow_rank(m)) for m in pair)
    ra, rb = ra - ra.mean(), rb - rb.mean()
    assert got == pytest.approx(float((ra * rb).sum() / np.sqrt((ra**2).sum() * (rb**2).sum())))


def test_rank_of_a_monotone_change_is_one_and_of_a_reversal_minus_one() -> None:
    a = np.random.default_rng(0).random((4, 4))
    assert maps.rank(a, a**3) == pytest.approx(1)
    assert maps.rank(a, 1 - a) == pytest.approx(-1)
