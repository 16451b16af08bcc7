"""Scores, thresholds and curves of an alarm: by hand on small arrays, and against scikit-learn."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from underfire import calibration
from underfire.core import UnderfireError
from underfire.detection import auc, roc
from underfire.interpreters import disagreement

VALUES = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=12)


@given(VALUES, VALUES)
def test_auc_is_scikit_learns(benign: list[float], attacked: list[float]) -> None:
    truth = [0] * len(benign) + [1] * len(attacked)
    assert auc(benign, attacked).value == pytest.approx(roc_auc_score(truth, benign + attacked), abs=1e-12)


def test_the_curve_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    benign, attacked = rng.normal(size=40).round(1).tolist(), (rng.normal(size=30) + 1).round(1).tolist()
    ours = roc(benign, attacked)
    truth = [0] * len(benign) + [1] * len(attacked)
    false_alarms, found, _ = roc_curve(truth, benign + attacked, drop_intermediate=False)
    assert ours.false_alarms == pytest.approx(false_alarms.tolist())
    assert ours.found == pytest.approx(found.tolist())


def test_auc_by_hand_and_what_could_not_be_scored() -> None:
    assert auc([1.0, 2.0], [2.0, 3.0]).value == (1 + 1 + 0.5 + 1) / 4
    assert auc([1.0, 2.0], [None]).value == 1.0, "no map is an alarm"
    assert auc([], [1.0]).value is None and auc([], [1.0]).n == 0
    wide = auc([0.0, 1.0, 2.0, 3.0], [2.5, 3.5, 1.5])
    assert wide.low is not None and wide.high is not None and wide.low < (wide.value or 0) < wide.high
    assert auc([0.0, 1.0], [2.0, 3.0], seed=3) == auc([0.0, 1.0], [2.0, 3.0], seed=3)


def test_the_threshold_is_the_conformal_order_statistic() -> None:
    scores = [float(v) for v in range(1, 100)]  # n = 99: k = ⌈100 · 0.95⌉ = 95
    assert calibration.threshold(scores[::-1], 0.05) == 95.0
    assert calibration.threshold(scores, 0.01) == 99.0
    with pytest.raises(UnderfireError, match=r"--false-alarms 0.005 needs at least 266 benign images"):
        calibration.threshold(scores, 0.005)


@given(st.integers(2, 200))
def test_enough_images_are_enough(one_in: int) -> None:
    a = 1 / one_in
    n = calibration.images_needed(a)
    for images, enough in ((n, True), (n - 1, False)):
        left = images - calibration.fitted(images)
        assert (math.ceil(round((left + 1) * (1 - a), 9)) <= left) is enough


def test_the_threshold_keeps_its_promise_on_new_images() -> None:
    rng = np.random.default_rng(1)
    rates = []
    for _ in range(200):
        scores = rng.normal(size=150)
        rates.append((rng.normal(size=400) > calibration.threshold(scores.tolist(), 0.05)).mean())
    assert np.mean(rates) <= 0.05 + 0.003


def test_distances_and_score_by_hand() -> None:
    generator = torch.Generator().manual_seed(2)
    shown = [torch.rand(3, side, side, generator=generator, dtype=torch.float64) for side in (7, 14, 56)]
    d = disagreement.distances(shown)
    mean, spread = torch.tensor([0.8, 0.9, 1.0]).double(), torch.tensor([0.1, 0.2, 0.3]).double()
    s = disagreement.score(d, mean, spread)
    for k in range(3):
        coarse = []
        for m in shown:
            step = m.shape[1] // 7
            cells = [
                float(m[k, i * step : (i + 1) * step, j * step : (j + 1) * step].mean())
                for i in range(7)
                for j in range(7)
            ]
            coarse.append(np.asarray(cells))
        wanted = [1 - np.corrcoef(a, b)[0, 1] for a, b in itertools.combinations(coarse, 2)]
        assert d[k].tolist() == pytest.approx(wanted, abs=1e-6)
        z = [(v - m) / sd for v, m, sd in zip(wanted, mean.tolist(), spread.tolist(), strict=True)]
        assert float(s[k]) == pytest.approx(math.log(sum(math.exp(v) for v in z) / 3), abs=1e-5)


def test_a_flat_map_agrees_with_none_and_has_a_gradient() -> None:
    flat = torch.zeros(1, 7, 7, dtype=torch.float64, requires_grad=True)
    other = torch.rand(1, 7, 7, dtype=torch.float64)
    d = disagreement.distances([flat, other])
    assert float(d.detach()) == pytest.approx(1.0)
    (slope,) = torch.autograd.grad(d.sum(), flat)
    assert bool(slope.isfinite().all())


def test_maps_that_agree_score_least() -> None:
    m = torch.rand(4, 14, 14, dtype=torch.float64)
    zeros, ones = torch.zeros(3).double(), torch.ones(3).double()
    same = disagreement.score(disagreement.distances([m, 2 * m, m + 1]), zeros, ones)
    other = disagreement.score(disagreement.distances([m, 1 - m, m]), zeros, ones)
    assert same.abs().max() < 1e-6 and bool((other > same).all())
