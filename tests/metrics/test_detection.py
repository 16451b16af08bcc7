"""Scores, thresholds and curves of an alarm: by hand on small arrays, and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from support.replicas.interpreters import some_excesses
from underfire.core import UnderfireError
from underfire.defenses.squeezers import smoothed_copy
from underfire.defenses.statistic import logarithm, one_sided, unlike
from underfire.metrics import conformal
from underfire.metrics.detection import auc, detection, roc

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


def test_detection_at_a_rate_by_hand() -> None:
    benign = [float(v) for v in range(1, 100)]  # the thresholds for 5 % and 1 %: 95 and 99
    attacked = [94.0, 95.5, 98.0, 99.5, None]
    assert detection(benign, attacked, 0.05).value == 4 / 5
    assert detection(benign, attacked, 0.01).value == 2 / 5
    assert detection(benign[:98], attacked, 0.01).value is None, "98 benign images say nothing of one in a hundred"
    assert detection([*[None] * 10, *benign], attacked, 0.05).value == 0, "benign images without a map are loud too"


def test_the_threshold_is_the_conformal_order_statistic() -> None:
    scores = [float(v) for v in range(1, 100)]  # n = 99: k = ⌈100 · 0.95⌉ = 95
    assert conformal.threshold(scores[::-1], 0.05) == 95.0
    assert conformal.threshold(scores, 0.01) == 99.0
    with pytest.raises(UnderfireError, match=r"--false-alarms 0.005 needs at least 266 benign images"):
        conformal.threshold(scores, 0.005)


@given(st.integers(2, 200))
def test_enough_images_are_enough(one_in: int) -> None:
    a = 1 / one_in
    n = conformal.images_needed(a)
    for images, enough in ((n, True), (n - 1, False)):
        left = images - conformal.fitted(images)
        assert (math.ceil(round((left + 1) * (1 - a), 9)) <= left) is enough


def test_the_threshold_keeps_its_promise_on_new_images() -> None:
    rng = np.random.default_rng(1)
    rates = []
    for _ in range(200):
        scores = rng.normal(size=150)
        rates.append((rng.normal(size=400) > conformal.threshold(scores.tolist(), 0.05)).mean())
    assert np.mean(rates) <= 0.05 + 0.003


@pytest.mark.parametrize("seed", [2, 4])
def test_more_disagreement_never_scores_less(seed: int) -> None:
    r, covariance = some_excesses(torch.Generator().manual_seed(seed))
    r.requires_grad_()
    (slope,) = torch.autograd.grad(one_sided(r, covariance).sum(), r)
    assert float(slope.min()) >= 0 and float(slope.max()) > 0
    more = r.detach() + torch.rand(r.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert bool((one_sided(more, covariance) >= one_sided(r, covariance) - 1e-9).all())


def test_a_flat_map_agrees_with_none_and_has_a_gradient() -> None:
    flat = torch.zeros(1, 7, 7, dtype=torch.float64, requires_grad=True)
    d = unlike(flat, torch.rand(1, 7, 7, dtype=torch.float64))
    assert float(d.detach()[0]) == pytest.approx(1.0)
    (slope,) = torch.autograd.grad(d.sum(), flat)
    assert bool(slope.isfinite().all())


def test_what_stays_the_same_scores_nothing() -> None:
    m = torch.rand(4, 14, 14, dtype=torch.float64)
    same, other = (
        one_sided(logarithm(unlike(m, again))[:, None] + 3, torch.eye(1).double()) for again in (0.5 * m + 0.1, 1 - m)
    )
    assert float(same.max()) == 0 and float(other.min()) > 1


def test_the_copy_is_a_little_smoother() -> None:
    x = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    copy = smoothed_copy(x)
    assert copy.shape == x.shape and float(copy.std()) < float(x.std())
    torch.testing.assert_close(smoothed_copy(torch.full_like(x, 0.3)), torch.full_like(x, 0.3))


def test_a_photo_is_not_its_own_negative() -> None:
    """Ten photos whose attacked pictures score as their originals: against all of them the AUC has ties with itself."""
    scores = [float(i) for i in range(10)]
    names = [str(i) for i in range(10)]
    pairs = [(a, b) for a in range(10) for b in range(10) if a != b]
    found = auc(scores, scores, photos=(names, names))
    assert found.value == pytest.approx(sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs))
    assert auc([1.0], [2.0], photos=(["a"], ["a"])).value is None, "nothing but itself to compare with"
    apart = auc(scores, [20.0, 21.0], photos=(names, ["x", "y"]))
    assert apart.value == 1.0


def test_detection_takes_the_threshold_of_the_other_photos() -> None:
    benign = [float(i) for i in range(41)]
    names = [str(i) for i in range(41)]
    attacked = [value + 0.5 for value in benign]
    found = detection(benign, attacked, 0.05, (names, names))
    by_hand = []
    for i, loud in enumerate(attacked):
        rest = sorted(benign[:i] + benign[i + 1 :])
        by_hand.append(loud > rest[math.ceil(41 * 0.95) - 1])
    assert found.value == pytest.approx(sum(by_hand) / len(by_hand))
    assert detection(benign[:19], attacked, 0.05, (names[:19], names)).value is None, "18 others are too few"


def test_several_seeds_of_a_photo_are_one_photo() -> None:
    benign, names = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0] * 4, [f"b{i}" for i in range(24)]
    attacked, own = [2.5, 4.5, 1.5, 3.5] * 9, [f"a{i % 4}" for i in range(36)]
    found = auc(benign, attacked, photos=(names, own))
    apart = auc(benign, attacked, photos=(names, [f"a{i}" for i in range(36)]))
    assert (found.n, found.photos, apart.photos) == (36, 4, None)
    assert found.low is not None and apart.low is not None and found.low < apart.low
