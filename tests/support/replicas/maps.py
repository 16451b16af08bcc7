"""Scaling and distances of maps, with loops over pixels."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch import Tensor

from support.replicas import drawn, replicates, uniform
from underfire.images import maps

Array = np.ndarray[Any, Any]
Picture = list[list[float]]

_value = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1, width=32))  # ties are common


def arrays_of(count: int, dims: int = 2, values: st.SearchStrategy[float] = _value) -> st.SearchStrategy[Any]:
    """So many arrays of one shape."""
    shapes = array_shapes(min_dims=dims, max_dims=dims, min_side=1, max_side=7)
    return shapes.flatmap(lambda shape: st.tuples(*[arrays(np.float64, shape, elements=values)] * count))


def stacks_of(count: int, values: st.SearchStrategy[float] = _value) -> st.SearchStrategy[tuple[Tensor, ...]]:
    """So many tensors (N, h, w) of one shape."""
    return arrays_of(count, 3, values).map(lambda found: tuple(map(torch.from_numpy, found)))


@replicates(maps.l1, stacks_of(2))
def l1(a: Tensor, b: Tensor) -> list[float]:
    return [sum(abs(x - y) for x, y in both) / len(both) for both in _pixels(a, b)]


@replicates(maps.l2, stacks_of(2))
def l2(a: Tensor, b: Tensor) -> list[float]:
    return [sum((x - y) ** 2 for x, y in both) / len(both) for both in _pixels(a, b)]


def _pixels(a: Tensor, b: Tensor) -> list[list[tuple[float, float]]]:
    """Image by image, the values of two stacks at each pixel."""
    return [list(zip(x.flatten().tolist(), y.flatten().tolist(), strict=True)) for x, y in zip(a, b, strict=True)]


@replicates(maps.unit_scale, stacks_of(1, st.floats(-1e6, 1e6)), atol=1e-12)
def unit_scale(raw: Tensor) -> list[list[float]]:
    """Each to [0, 1]; a constant one is 0."""
    scaled = []
    for values in raw.flatten(1).tolist():
        low, span = min(values), max(values) - min(values)
        scaled.append([(v - low) / span if span > 0 else 0.0 for v in values])
    return scaled


@replicates(maps.resize, drawn(lambda g: (uniform(g, 2, 3, 4), (5, 9))))
def resize(m: Tensor, size: tuple[int, int]) -> list[Picture]:
    return [bilinear(one.tolist(), size) for one in m]


def bilinear(m: Picture, size: tuple[int, int]) -> Picture:
    """Up-sampling with pixel centres at half-integers (align_corners=False)."""

    def place(i: int, n: int, to: int) -> tuple[int, int, float]:
        at = max(0.0, (i + 0.5) * n / to - 0.5)
        low = min(int(at), n - 1)
        return low, min(low + 1, n - 1), at - low

    out = [[0.0] * size[1] for _ in range(size[0])]
    for i, j in product(*map(range, size)):
        a, b, s = place(i, len(m), size[0])
        c, d, t = place(j, len(m[0]), size[1])
        out[i][j] = (1 - s) * ((1 - t) * m[a][c] + t * m[a][d]) + s * ((1 - t) * m[b][c] + t * m[b][d])
    return out


@replicates(maps.top_weights, st.tuples(arrays_of(1).map(lambda found: found[0]), st.floats(0.01, 1)), atol=1e-12)
def top_weights(m: Array, share: float = 0.2) -> Array:
    """Hand the k places out one value at a time, from the largest; those who do not all fit share."""
    places = float(max(1, round(share * m.size)))
    weights = np.zeros(m.shape)
    for value in sorted(set(m.ravel()), reverse=True):
        holders = [index for index in np.ndindex(m.shape) if m[index] == value]
        for index in holders:
            weights[index] = min(1.0, places / len(holders))
        places = max(0.0, places - len(holders))
    return weights


@replicates(maps.iou, arrays_of(2))
def iou(a: Array, b: Array) -> float:
    both = list(zip(top_weights(a).ravel(), top_weights(b).ravel(), strict=True))
    return float(sum(map(min, both)) / sum(map(max, both)))


@replicates(maps.iou_curve, arrays_of(2))
def iou_curve(a: Array, b: Array) -> list[float | None]:
    """Of the sets of pixels from each threshold on."""
    curve: list[float | None] = []
    for t in range(1, 10):
        of_a, of_b = ({i for i, v in enumerate(m.ravel()) if v >= round(t / 10, 1)} for m in (a, b))
        curve.append(len(of_a & of_b) / len(of_a | of_b) if of_a | of_b else None)
    return curve


@replicates(maps.rank, arrays_of(2))
def rank(a: Array, b: Array) -> float | None:
    """The correlation of ranks; tied values get their mean rank."""
    if any(len(set(m.ravel())) == 1 for m in (a, b)):
        return None
    ranks = []
    for m in (a, b):
        flat = list(m.ravel())
        ranks.append([sum(v < w for v in flat) + (sum(v == w for v in flat) + 1) / 2 for w in flat])
    return correlation(*ranks)


def correlation(a: list[float], b: list[float]) -> float:
    """Pearson's."""
    return float(np.corrcoef(np.array([a, b]))[0, 1])
